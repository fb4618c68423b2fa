"""The pipeline: order, counts, ties, how much is explained."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from openqrm.contracts.host import HostConnection, HostFacts, HostView
from openqrm.contracts.placement import PlacementRequest
from openqrm.contracts.states import HostState
from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.projection import Projection

MULTIPLIERS = {"cpu_balance": 1.0, "memory_balance": 1.0, "spread": 0.5}


def test_a_host_is_counted_once_under_the_first_filter_that_refuses_it(projection, make_host, propose):
    projection.put_host(make_host(1, technology="xen", state="failed"))
    projection.put_host(make_host(2, state="failed", facts={"memory_mib": 1000}))
    projection.put_host(make_host(3, facts={"memory_mib": 1000, "cpus": 0}))
    projection.put_host(make_host(4))
    proposal = propose(technology="qemu")
    assert proposal.refused_by == {"technology": 1, "state": 1, "memory": 1}
    assert list(proposal.refused_by) == ["technology", "state", "memory"]
    assert proposal.hosts_considered == 4
    assert proposal.host_id == UUID(int=4)


def test_refusals_nearest_to_fitting_come_first(projection, make_host, propose):
    projection.put_host(make_host(1, state="failed"))
    projection.put_host(make_host(2, facts={"memory_mib": 1000}))
    assert [refusal.filter for refusal in propose().refusals] == ["memory", "state"]


def test_no_hosts_at_all(propose):
    proposal = propose()
    assert (proposal.host_id, proposal.scores, proposal.refusals, proposal.hosts_considered) == (None, (), (), 0)


def test_only_one_host_is_judged(projection, make_host, propose):
    for number in (1, 2):
        projection.put_host(make_host(number))
    proposal = propose(only_host_id=UUID(int=2))
    assert (proposal.host_id, proposal.hosts_considered, proposal.refused_by) == (UUID(int=2), 1, {})
    assert propose(only_host_id=UUID(int=3)).hosts_considered == 0


def test_equals_are_told_apart_by_id(projection, make_host, make_request, pipeline):
    for number in (300, 5, 1 << 70, 9):
        projection.put_host(make_host(number))
    proposal = pipeline.propose(projection.cluster, make_request(), 0)
    assert [score.host_id.int for score in proposal.scores] == [5, 9, 300, 1 << 70]


def test_the_same_question_has_the_same_answer(projection, make_host, make_request, pipeline):
    for number in range(1, 500):
        projection.put_host(make_host(number, facts={"memory_mib": 2000 + number % 7 * 1000}))
    first = pipeline.propose(projection.cluster, make_request(), 17)
    assert first == pipeline.propose(projection.cluster, make_request(), 17)
    assert first.projection_sequence == 17


def test_every_host_of_a_small_data_centre_is_explained(projection, make_host, propose):
    for number in range(1, 201):
        projection.put_host(make_host(number, state="ready" if number % 3 else "failed"))
    proposal = propose()
    assert len(proposal.scores) + len(proposal.refusals) == 200


def test_of_many_hosts_the_best_are_explained_and_all_counted(projection, make_host, make_request):
    for number in range(1, 101):
        projection.put_host(make_host(number, facts={"memory_mib": 20_000 + number}))
    for number in range(101, 201):
        projection.put_host(make_host(number, state="failed"))
    proposal = Pipeline(MULTIPLIERS, explained=10).propose(projection.cluster, make_request(), 0)
    assert [score.host_name for score in proposal.scores] == [f"kvm{number}" for number in (100, 99, 98, 97, 96)]
    assert [score.total for score in proposal.scores] == sorted((s.total for s in proposal.scores), reverse=True)
    assert len(proposal.refusals) == 5
    assert proposal.refused_by == {"state": 100}


def test_what_one_side_does_not_need_the_other_gets(projection, make_host, make_request):
    for number in range(1, 51):
        projection.put_host(make_host(number))
    projection.put_host(make_host(51, state="failed"))
    proposal = Pipeline(MULTIPLIERS, explained=10).propose(projection.cluster, make_request(), 0)
    assert (len(proposal.scores), len(proposal.refusals)) == (9, 1)


hosts = st.lists(
    st.tuples(
        st.integers(0, 6000),  # memory
        st.integers(0, 4),  # CPUs
        st.sampled_from(["ready", "failed"]),
        st.sets(st.sampled_from(["ssd", "gpu"])),
        st.sampled_from(["qemu", "xen"]),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(hosts=hosts, memory=st.integers(1, 5000), vcpus=st.integers(1, 6), tags=st.sets(st.sampled_from(["ssd", "gpu"])))
def test_columns_agree_with_a_plain_loop(hosts, memory, vcpus, tags):
    projection, expected = Projection(), []
    for number, (has_memory, cpus, state, has_tags, technology) in enumerate(hosts, 1):
        view = _make_host(number, has_memory, cpus, state, has_tags, technology)
        projection.put_host(view)
        free, limit = max(has_memory - 1000, 0), cpus * 2
        if technology == "qemu" and state == "ready" and tags <= has_tags and free >= memory and limit >= vcpus:
            total = (limit - vcpus) / limit + (free - memory) / free + 0.5
            expected.append((-round(total, 6), number))
    request = PlacementRequest(
        partition_id=UUID(int=1 << 90), technology="qemu", memory_mib=memory, vcpus=vcpus, host_tags=tuple(tags)
    )
    proposal = Pipeline(MULTIPLIERS).propose(projection.cluster, request, 0)
    assert {score.host_id.int for score in proposal.scores} == {number for _, number in expected}
    assert sum(proposal.refused_by.values()) == len(hosts) - len(expected) == len(proposal.refusals)
    if expected:
        assert -proposal.scores[0].total == min(expected)[0]


def _make_host(number, memory, cpus, state, tags, technology):
    return HostView.model_construct(
        id=UUID(int=number),
        revision=1,
        name=f"kvm{number}",
        technology=technology,
        state=HostState(state),
        state_reason="",
        connection=HostConnection(uri="x://y"),
        tags=tuple(tags),
        cpu_overcommit=2.0,
        memory_overcommit=1.0,
        memory_reserve_mib=1000,
        facts=HostFacts(hostname="h", architecture="x", cpu_model="x", cpus=cpus, memory_mib=memory),
    )
