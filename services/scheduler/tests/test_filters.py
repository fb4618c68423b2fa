"""Each filter: what it refuses, in which words, and what it lets pass."""

from uuid import UUID

import pytest

from openqrm.contracts.states import HostState
from openqrm.contracts.technology import Capability
from openqrm.scheduler.filters import FILTERS


def test_every_filter_has_a_name_of_its_own():
    assert len({each.name for each in FILTERS}) == len(FILTERS)


def test_a_host_that_has_everything_passes(projection, make_host, propose):
    projection.put_host(make_host(1))
    proposal = propose()
    assert proposal.host_id == UUID(int=1)
    assert proposal.refusals == ()
    assert proposal.refused_by == {}
    assert proposal.hosts_considered == 1


def test_exclusion(projection, make_host, refusal):
    projection.put_host(make_host(1))
    assert refusal(excluded_host_ids={UUID(int=1), UUID(int=99)}) == ("exclusion", "The request excludes it.")


def test_technology(projection, make_host, refusal, propose):
    projection.put_host(make_host(1))
    assert refusal(technology="xen") == ("technology", "It runs qemu, and xen is asked for.")
    assert propose(technology="qemu").host_id
    assert propose(technology=None).host_id


@pytest.mark.parametrize("state", [state for state in HostState if state not in (HostState.READY, HostState.REMOVED)])
def test_state(projection, make_host, refusal, state):
    projection.put_host(make_host(1, state=state))
    assert refusal() == ("state", f"It is {state}, not ready.")


def test_state_with_its_reason(projection, make_host, refusal):
    projection.put_host(make_host(1, state="maintenance", state_reason="new memory modules."))
    assert refusal() == ("state", "It is maintenance, not ready: new memory modules.")


def test_a_removed_host_is_not_considered(projection, make_host, propose):
    projection.put_host(make_host(1))
    projection.put_host(make_host(1, revision=2, state="removed"))
    assert propose().hosts_considered == 0


def test_tags(projection, make_host, refusal, propose):
    projection.put_host(make_host(1, tags=("ssd", "rack 4")))
    assert refusal(host_tags=("gpu", "ssd")) == ("tags", "It lacks the tag gpu.")
    assert refusal(host_tags=("gpu", "fast", "arm")) == ("tags", "It lacks the tags arm, fast and gpu.")
    assert propose(host_tags=("ssd", "rack 4")).host_id


def test_tags_follow_the_host(projection, make_host, refusal, propose):
    projection.put_host(make_host(1, tags=("ssd",)))
    assert propose(host_tags=("ssd",)).host_id
    projection.put_host(make_host(1, revision=2, tags=("gpu",)))
    assert refusal(host_tags=("ssd",)) == ("tags", "It lacks the tag ssd.")
    assert propose(host_tags=("gpu",)).host_id


def test_capabilities(projection, make_host, make_manifest, refusal, propose):
    projection.put_host(make_host(1))
    wanted = {Capability.PAUSE, Capability.MIGRATION}
    assert refusal(capabilities=wanted) == (
        "capabilities",
        "What qemu can do is not known: no executor for it has announced itself.",
    )
    projection.put_manifest(make_manifest("qemu", Capability.PAUSE, migration="Its hosts share no network."))
    assert refusal(capabilities=wanted) == (
        "capabilities",
        "QEMU does not have migration: Its hosts share no network.",
    )
    projection.put_manifest(make_manifest("qemu", Capability.PAUSE, Capability.MIGRATION))
    assert propose(capabilities=wanted).host_id


def test_networks(projection, make_host, make_network, refusal, propose):
    projection.put_host(make_host(1))
    lan, dmz = make_network(0, name="lan"), make_network(7, name="dmz")
    assert refusal(network_ids=(lan.id,)) == ("networks", f"The network {lan.id} is not known.")
    projection.put_network(lan)
    projection.put_network(dmz)
    assert propose(network_ids=(lan.id,)).host_id
    assert refusal(network_ids=(lan.id, dmz.id)) == (
        "networks",
        "It has no bridge br7, which carries the network dmz.",
    )
    projection.put_host(make_host(1, revision=2, facts={"bridges": ("br0", "br7")}))
    assert propose(network_ids=(lan.id, dmz.id)).host_id


def test_networks_with_a_bridge_of_the_hosts_own(projection, make_host, make_network, refusal, propose):
    projection.put_host(make_host(1))
    dmz = make_network(7, name="dmz", host_bridges={UUID(int=1): "br0", UUID(int=99): "br1"})
    projection.put_network(dmz)
    assert propose(network_ids=(dmz.id,)).host_id
    projection.put_network(make_network(7, name="dmz", revision=2, host_bridges={UUID(int=1): "vmbr1"}))
    assert refusal(network_ids=(dmz.id,)) == ("networks", "It has no bridge vmbr1, which carries the network dmz.")


def test_networks_when_the_bridges_are_not_known(projection, make_host, make_network, refusal):
    projection.put_host(make_host(1, facts={"bridges": ()}))
    projection.put_network(make_network(0, name="lan"))
    assert refusal(network_ids=(make_network(0).id,)) == (
        "networks",
        "Whether it reaches the network lan is not known: it has reported no bridges.",
    )


def test_a_deleted_network_is_not_known(projection, make_host, make_network, refusal):
    projection.put_host(make_host(1))
    projection.put_network(make_network(0))
    projection.remove_network(make_network(0, revision=2))
    projection.put_network(make_network(0, revision=1))
    assert refusal(network_ids=(make_network(0).id,))[0] == "networks"


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (
            {"shared_storage": True},
            {"shared_storage": False},
            "Its storage is not shared; the disks lie on the shared storage of kvm1.",
        ),
        (
            {"shared_storage": False},
            {"shared_storage": True},
            "The disks lie on kvm1, which shares its storage with no other host.",
        ),
        (
            {"shared_storage": True, "storage_path": "/mnt/a"},
            {"shared_storage": True, "storage_path": "/mnt/b"},
            "It shares /mnt/b; the disks lie on the shared storage /mnt/a of kvm1.",
        ),
        ({"shared_storage": True}, {"shared_storage": True}, None),
    ],
)
def test_shared_storage(projection, make_host, propose, one, two, reason):
    projection.put_host(make_host(1, connection=one))
    projection.put_host(make_host(2, connection=two))
    proposal = propose(needs_shared_storage_with=UUID(int=1), excluded_host_ids={UUID(int=1)})
    reasons = {r.host_name: r.reason for r in proposal.refusals if r.filter == "shared-storage"}
    assert reasons.get("kvm2") == reason
    assert proposal.host_id == (None if reason else UUID(int=2))


def test_a_host_shares_storage_with_itself(projection, make_host, propose):
    projection.put_host(make_host(1))
    assert propose(needs_shared_storage_with=UUID(int=1)).host_id == UUID(int=1)


def test_shared_storage_with_a_host_that_is_not_known(projection, make_host, refusal):
    projection.put_host(make_host(1))
    assert refusal(needs_shared_storage_with=UUID(int=9)) == (
        "shared-storage",
        f"The host {UUID(int=9)}, whose storage it must share, is not known.",
    )


def test_memory(projection, make_host, make_partition, refusal, propose):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1, memory_mib=6500))
    assert propose(memory_mib=1500).host_id
    assert refusal(memory_mib=1501) == (
        "memory",
        "1,500 of 8,000 MiB of memory are free, 1,501 are asked for.",
    )


def test_memory_over_commit_counts_after_the_reserve(projection, make_host, refusal, propose):
    projection.put_host(make_host(1, memory_overcommit=1.5))
    assert propose(memory_mib=12000).host_id
    assert refusal(memory_mib=12001)[1] == "12,000 of 12,000 MiB of memory are free, 12,001 are asked for."


def test_memory_of_a_host_that_is_over_committed_already(projection, make_host, make_partition, refusal):
    projection.put_host(make_host(1))
    projection.put_partition(make_partition(1, 1, memory_mib=8500))
    assert refusal()[1] == "-500 of 8,000 MiB of memory are free, 1,000 are asked for."


def test_memory_without_facts(projection, make_host, refusal):
    projection.put_host(make_host(1, facts=None))
    assert refusal() == ("memory", "How much memory it has is not known: its executor has not read its facts yet.")


def test_a_reserve_above_the_memory_leaves_nothing(projection, make_host, refusal):
    projection.put_host(make_host(1, memory_reserve_mib=99_999))
    assert refusal()[1] == "0 of 0 MiB of memory are free, 1,000 are asked for."


def test_cpu(projection, make_host, make_partition, refusal, propose):
    projection.put_host(make_host(1, cpu_overcommit=1.3))
    projection.put_partition(make_partition(1, 1, vcpus=8))
    assert propose(vcpus=2).host_id
    assert refusal(vcpus=3) == ("cpu", "2.4 of 10.4 vCPUs are free, 3 are asked for.")


def test_storage(projection, make_host, refusal, propose):
    projection.put_host(make_host(1))
    assert propose(disk_mib=5000).host_id
    assert refusal(disk_mib=5001) == ("storage", "5,000 MiB are free in /var/lib/openqrm, the disks take 5,001.")


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("/var/lib/openqrm", False),
        ("/var/lib/openqrm/disks/deeper", False),
        ("/var/lib/openqrm-other", True),
        ("/srv", True),
    ],
)
def test_storage_is_the_one_that_holds_the_path(projection, make_host, propose, path, fits):
    projection.put_host(make_host(1, connection={"storage_path": path}))
    assert bool(propose(disk_mib=6000).host_id) is fits


def test_storage_nearest_to_the_path_counts(projection, make_host, propose):
    roots = [
        {"name": name, "path": path, "total_mib": 9, "free_mib": free}
        for name, path, free in (
            ("root", "/", 90_000),
            ("disks", "/var/lib/openqrm/disks/", 10),
            ("lib", "/var/lib", 80_000),
        )
    ]
    projection.put_host(make_host(1, facts={"storages": tuple(roots)}))
    assert propose(disk_mib=11).refusals[0].reason == ("10 MiB are free in /var/lib/openqrm/disks/, the disks take 11.")


def test_storage_that_nobody_knows_is_accepted(projection, make_host, propose):
    projection.put_host(make_host(1, facts={"storages": ()}))
    assert propose(disk_mib=9_000_000).host_id
