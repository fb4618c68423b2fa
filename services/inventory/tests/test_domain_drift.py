"""What differs between a partition and what is seen of it."""

from dataclasses import replace
from uuid import UUID

import pytest
from partitions import NETWORK, NETWORKS, observed_of, partition

from openqrm.contracts.partition import ObservedDisk, ObservedNic
from openqrm.contracts.states import ObservedState
from openqrm.inventory.domain.drift import find_drift


def fields(found):
    return {drift.field: (drift.wanted, drift.found) for drift in found}


def test_what_agrees_does_not_drift():
    assert find_drift(partition(), observed_of(partition()), NETWORKS) == ()


@pytest.mark.parametrize(("field", "value"), [("memory_mib", 128), ("vcpus", 7)])
def test_size_drifts(field, value):
    ours = partition()
    seen = observed_of(ours, **{field: value})
    assert fields(find_drift(ours, seen, NETWORKS)) == {field: (str(getattr(ours, field)), str(value))}


def test_what_was_not_seen_does_not_drift():
    assert find_drift(partition(), observed_of(partition(), memory_mib=None, vcpus=None), NETWORKS) == ()


def test_ceilings_drift_only_at_rest():
    ours = partition()
    assert find_drift(ours, observed_of(ours, memory_max_mib=9999), NETWORKS) == ()
    stopped = observed_of(ours, memory_max_mib=9999, state=ObservedState.STOPPED)
    assert fields(find_drift(ours, stopped, NETWORKS)) == {"memory_max_mib": ("512", "9999")}


def test_nics_drift():
    ours = partition()
    mac = ours.nics[0].mac
    assert fields(find_drift(ours, observed_of(ours, nics=()), NETWORKS)) == {f"nics.{mac}": ("br0", "none")}
    other = ObservedNic(mac=mac, bridge="br9")
    assert fields(find_drift(ours, observed_of(ours, nics=(other,)), NETWORKS)) == {f"nics.{mac}": ("br0", "br9")}
    added = ObservedNic(mac="02:fa:4e:00:00:99", bridge="br0")
    seen = observed_of(ours, nics=(ObservedNic(mac=mac, bridge="br0"), added))
    assert fields(find_drift(ours, seen, NETWORKS)) == {"nics.02:fa:4e:00:00:99": ("none", "br0")}


def test_the_bridge_of_its_own_host_counts():
    ours = partition()
    there = {NETWORK: replace(NETWORKS[NETWORK], host_bridges={UUID(int=77): "br7"})}
    assert find_drift(ours, observed_of(ours), there) == ()
    moved = replace(ours, host_id=UUID(int=77))
    assert fields(find_drift(moved, observed_of(ours), there)) == {f"nics.{ours.nics[0].mac}": ("br7", "br0")}


def test_disks_drift():
    ours = partition()
    seen = observed_of(ours, disks=(ObservedDisk(target="vdz", source="/x"),))
    assert fields(find_drift(ours, seen, NETWORKS)) == {
        "disks.vda": ("present", "none"),
        "disks.vdz": ("none", "present"),
    }
