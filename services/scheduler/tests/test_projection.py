"""The projection: revisions in any order, usage, what was proposed just now."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from openqrm.contracts.host import HostActivated, HostRemoved
from openqrm.contracts.network import NetworkCreated, NetworkDeleted
from openqrm.contracts.placement import PlacedPartition
from openqrm.contracts.states import PartitionState
from openqrm.contracts.technology import Capability, ExecutorAnnounced
from openqrm.scheduler import projection as projection_module
from openqrm.scheduler.projection import Projection
from openqrm.scheduler.reading import PlacementChanged


def free(projection: Projection, host: int) -> tuple[float, float, float]:
    """MiB and vCPUs that are free on a host, and its partitions."""
    hosts = projection.cluster.hosts
    row = hosts.row_of[UUID(int=host)]
    return float(hosts.memory_free[row]), float(hosts.cpu_free[row]), float(hosts.partitions[row])


def test_a_placed_partition_takes_capacity(projection, make_host, make_partition):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1))
    assert free(projection, 1) == (7000, 14, 1)


def test_a_partition_may_come_before_its_host(projection, make_host, make_partition):
    projection.put_partition(make_partition(1, 1))
    projection.put_host(make_host(1))
    assert free(projection, 1) == (7000, 14, 1)


def test_a_change_of_the_host_keeps_its_usage(projection, make_host, make_partition):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1))
    projection.put_host(make_host(1, revision=2, memory_reserve_mib=0))
    assert free(projection, 1) == (8000, 14, 1)


def test_on_the_move_it_takes_both_hosts(projection, make_host, make_partition):
    projection.put_host(make_host(1))
    projection.put_host(make_host(2))
    projection.put_partition(make_partition(1, 1, target_host_id=UUID(int=2), state="migrating"))
    assert free(projection, 1) == free(projection, 2) == (7000, 14, 1)
    projection.put_partition(make_partition(1, 2, revision=2))
    assert free(projection, 1) == (8000, 16, 0)
    assert free(projection, 2) == (7000, 14, 1)


def test_an_older_view_changes_nothing(projection, make_host, make_partition):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1, revision=5, memory_mib=3000))
    projection.put_partition(make_partition(1, 1, revision=4, memory_mib=500))
    projection.put_partition(make_partition(1, 1, revision=5, memory_mib=500))
    assert free(projection, 1) == (5000, 14, 1)
    projection.put_host(make_host(1, revision=3, name="new"))
    projection.put_host(make_host(1, revision=2, name="old"))
    assert projection.cluster.hosts.view(projection.cluster.hosts.row_of[UUID(int=1)]).name == "new"


def test_a_late_view_does_not_bring_back_what_is_gone(projection, make_host, make_partition):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1, revision=3, state="deleted"))
    projection.put_partition(make_partition(1, 1, revision=2))
    assert projection.partitions == 0
    projection.put_host(make_host(1, revision=9, state="removed"))
    projection.put_host(make_host(1, revision=8))
    assert projection.cluster.hosts.count == 0


def test_what_is_gone_is_not_remembered_for_ever(projection, make_partition, monkeypatch):
    monkeypatch.setattr(projection_module, "MAX_GONE", 10)
    for number in range(50):
        projection.put_partition(make_partition(number, 1, state="deleted"))
    assert len(projection._gone) == 10


def test_the_row_of_a_removed_host_is_used_again_without_its_usage(projection, make_host, make_partition, make_network):
    projection.put_network(make_network(0))
    projection.put_host(make_host(1, tags=("ssd",)))
    assert projection.cluster.reach(make_network(0)).sum() == 1
    projection.put_partition(make_partition(1, 1))
    projection.put_host(make_host(1, revision=2, state="removed"))
    projection.put_host(make_host(2, facts={"bridges": ("br9",)}))
    assert free(projection, 2) == (8000, 16, 0)
    assert projection.cluster.hosts.tags.column("ssd", projection.cluster.hosts.length).sum() == 0
    assert projection.cluster.reach(make_network(0)).sum() == 0


def test_it_grows(projection, make_host, propose):
    for number in range(1, 300):
        projection.put_host(make_host(number, tags=("ssd",)))
        if number in (1, 64, 65, 299):
            assert propose(number, host_tags=("ssd",)).hosts_considered == number
    assert projection.cluster.hosts.count == 299


def test_events(projection, make_host, make_network, make_manifest, make_partition):
    projection.apply(HostActivated(host=make_host(1)))
    projection.apply(PlacementChanged(partition=make_partition(1, 1)))
    projection.apply(NetworkCreated(network=make_network(0)))
    projection.apply(ExecutorAnnounced(manifest=make_manifest("qemu", Capability.PAUSE), version="1"))
    assert free(projection, 1) == (7000, 14, 1)
    assert projection.cluster.networks.keys() == {make_network(0).id}
    assert projection.cluster.manifests.keys() == {"qemu"}
    projection.apply(NetworkDeleted(network=make_network(0, revision=2)))
    projection.apply(HostRemoved(host=make_host(1, revision=2, state="removed")))
    assert projection.cluster.networks == {}
    assert projection.cluster.hosts.count == 0


# ------------------------------------------------------------------------------------------------ just proposed


def test_a_burst_spreads(projection, make_host, propose):
    for number in (1, 2, 3):
        projection.put_host(make_host(number))
    assert {propose(number).host_id.int for number in range(3)} == {1, 2, 3}
    assert free(projection, 1) == free(projection, 2) == free(projection, 3) == (7000, 14, 1)


def test_a_proposal_counts_for_a_while(projection, make_host, propose):
    projection.put_host(make_host(1))
    assert propose(1, now=100, memory_mib=8000, disk_mib=4000).host_id
    assert propose(2, now=109.9).refused_by == {"memory": 1}
    assert propose(2, now=110, disk_mib=5000).host_id


def test_a_proposal_counts_until_its_partition_is_heard_of(projection, make_host, make_partition, propose):
    projection.put_host(make_host(1))
    propose(1)
    projection.put_partition(make_partition(1, None, state="creating"))
    assert free(projection, 1) == (7000, 14, 1), "not placed yet: the proposal still counts"
    projection.put_partition(make_partition(1, 1, revision=2))
    assert free(projection, 1) == (7000, 14, 1)
    propose(2, now=60)
    assert free(projection, 1) == (6000, 12, 2)


def test_a_proposal_for_a_partition_that_is_deleted_is_dropped(projection, make_host, make_partition, propose):
    projection.put_host(make_host(1))
    propose(1)
    projection.put_partition(make_partition(1, None, state="deleted"))
    assert free(projection, 1) == (8000, 16, 0)


def test_asking_again_replaces_the_first_proposal(projection, make_host, propose):
    projection.put_host(make_host(1))
    assert propose(1, memory_mib=5000).host_id
    assert propose(1, memory_mib=6000).host_id
    assert free(projection, 1) == (2000, 14, 1)


def test_a_partition_does_not_stand_in_its_own_way(projection, make_host, make_partition, propose):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1, memory_mib=6000))
    assert propose(1, memory_mib=8000, only_host_id=UUID(int=1)).host_id
    assert propose(2, memory_mib=2001, only_host_id=UUID(int=1)).host_id is None
    assert free(projection, 1) == (2000, 14, 1)


def test_a_move_counts_on_the_new_host_at_once(projection, make_host, make_partition, propose):
    projection.put_host(make_host(1))
    projection.put_host(make_host(2))
    projection.put_partition(make_partition(1, 1))
    assert propose(1, excluded_host_ids={UUID(int=1)}).host_id == UUID(int=2)
    assert free(projection, 1) == free(projection, 2) == (7000, 14, 1)


# ------------------------------------------------------------------------------------------------ properties

views = st.builds(
    lambda number, revision, host, target, memory, vcpus, deleted: PlacedPartition(
        id=UUID(int=1000 + number),
        revision=revision,
        state=PartitionState.DELETED if deleted else PartitionState.RUNNING,
        host_id=UUID(int=host) if host else None,
        target_host_id=UUID(int=target) if target else None,
        memory_mib=memory,
        vcpus=vcpus,
    ),
    st.integers(0, 5),
    st.integers(1, 12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(16, 4096),
    st.integers(1, 8),
    st.booleans(),
)


@settings(max_examples=300)
@given(st.lists(views, max_size=40))
def test_usage_is_the_sum_over_the_newest_views(changes):
    projection, newest = Projection(), {}
    for view in changes:
        projection.put_partition(view)
        if view.id not in newest or newest[view.id].revision < view.revision:
            newest[view.id] = view
    living = [view for view in newest.values() if view.state is not PartitionState.DELETED]
    assert projection.partitions == len(living)
    for host in (UUID(int=number) for number in (1, 2, 3)):
        on_it = [view for view in living if host in (view.host_id, view.target_host_id)]
        usage = projection._tally.of(host)
        assert usage.partitions == len(on_it)
        assert usage.memory_mib == sum(view.memory_mib for view in on_it)
        assert usage.vcpus == sum(view.vcpus for view in on_it)
