from collections.abc import Callable

import libvirt
import pytest

from openqrm.contracts.states import ObservedState
from openqrm.executor_qemu.domain_reading import (
    find_disk,
    find_nic,
    is_emulated,
    observed_state,
    own_volumes,
    read_display,
    read_partition,
)

Recorded = Callable[[str], str]


def test_a_running_partition_of_ours(recorded: Recorded) -> None:
    seen = read_partition(recorded("libvirt-9.0.0-running.xml"), libvirt.VIR_DOMAIN_RUNNING, 1, True)
    assert seen.name == 'Büro <1> & "2"'
    assert (seen.state, seen.epoch) == (ObservedState.RUNNING, 3)
    assert (seen.memory_mib, seen.memory_max_mib, seen.vcpus, seen.vcpus_max) == (128, 256, 2, 4)
    assert [(nic.mac, nic.bridge, nic.model) for nic in seen.nics] == [("52:54:00:77:01:10", "br0", "virtio")]
    assert [(disk.target, disk.bus) for disk in seen.disks] == [("vda", "virtio"), ("vdb", "virtio")]
    assert seen.disks[0].source.startswith("/lab/local/disks/")
    assert seen.disks[1].source == "iscsi://10.77.1.21:3260/iqn.2026-01.lab.openqrm:chap/1"


def test_a_stranger(recorded: Recorded) -> None:
    seen = read_partition(recorded("libvirt-9.0.0-stranger.xml"), libvirt.VIR_DOMAIN_SHUTOFF, 0, True)
    assert (seen.name, seen.epoch, seen.state) == ("stranger one", None, ObservedState.STOPPED)
    assert [nic.bridge for nic in seen.nics] == ["br0"]
    assert seen.disks == ()


def test_the_display_is_there_while_it_runs(recorded: Recorded) -> None:
    display = read_display(recorded("libvirt-9.0.0-running.xml"))
    assert display is not None
    assert (display.address, display.port >= 5900) == ("127.0.0.1", True)
    assert read_display(recorded("libvirt-9.0.0-stopped.xml")) is None


def test_devices_are_found(recorded: Recorded) -> None:
    xml = recorded("libvirt-9.0.0-running.xml")
    assert find_nic(xml, "52:54:00:77:01:10".upper()) is not None
    assert find_nic(xml, "52:54:00:00:00:00") is None
    assert find_disk(xml, "vda") is not None
    assert find_disk(xml, "vdz") is None
    assert is_emulated(xml)


def test_own_volumes_are_those_with_our_name_in_our_folder(recorded: Recorded) -> None:
    xml = recorded("libvirt-9.0.0-running.xml")
    seen = read_partition(xml, 1, 1, True)
    assert len(own_volumes(xml, seen.id, "/lab/local/disks/")) == 1
    assert own_volumes(xml, seen.id, "/elsewhere") == frozenset()


@pytest.mark.parametrize(
    ("state", "reason", "persistent", "expected"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, 0, True, ObservedState.RUNNING),
        (libvirt.VIR_DOMAIN_BLOCKED, 0, True, ObservedState.RUNNING),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 0, True, ObservedState.RUNNING),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, True, ObservedState.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, False, ObservedState.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, True, ObservedState.RUNNING),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, True, ObservedState.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, False, ObservedState.INCOMING),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, True, ObservedState.STOPPED),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED, True, ObservedState.STOPPED),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, True, ObservedState.CRASHED),
        (libvirt.VIR_DOMAIN_CRASHED, 0, True, ObservedState.CRASHED),
    ],
)
def test_states(state: int, reason: int, persistent: bool, expected: ObservedState) -> None:
    assert observed_state(state, reason, persistent) is expected


def test_the_memory_of_ours_is_what_the_balloon_is_set_to(recorded: Recorded) -> None:
    xml = recorded("libvirt-9.0.0-running.xml").replace("131072</currentMemory>", "262144</currentMemory>")
    assert read_partition(xml, 1, 1, True).memory_mib == 256
    assert read_partition(xml, 1, 1, True, recorded("libvirt-9.0.0-stopped.xml")).memory_mib == 128
