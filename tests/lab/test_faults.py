"""What breaks: hung and killed guests, a killed libvirtd, a pulled cable, a power cut, a stranger on a host."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from product import BRIDGED, Guest, Site, expect_failure, wait_until

from openqrm.contracts.states import HostState, OperationState

pytestmark = pytest.mark.lab

STRANGER_ID = "5c1f0f5e-3c1b-4a7e-9a65-0d9c5b1f7a10"
STRANGER = f"""<domain type='qemu'><name>made by hand</name><uuid>{STRANGER_ID}</uuid><memory unit='MiB'>64</memory>
<os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/lab/local/by-hand.raw'/>
<target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/><model type='virtio'/></interface>
</devices></domain>"""


@pytest.fixture(scope="module")
def guests(site: Site) -> list[Guest]:
    """Two running guests on kvm1, the second of which stays down when it crashes, and one on kvm3."""
    made = [
        site.create("restarting", "kvm1"),
        site.create("staying", "kvm1", on_crash="stay"),
        site.create("far away", "kvm3"),
    ]
    for _, operation in made:
        site.gateway.finish(operation)
    return [guest for guest, _ in made]


@pytest.fixture
def restarting(guests: list[Guest]) -> Guest:
    """A guest on kvm1 that is restarted after a crash."""
    return guests[0]


@pytest.fixture
def staying(guests: list[Guest]) -> Guest:
    """A guest on kvm1 that stays down after a crash."""
    return guests[1]


@pytest.fixture
def far(guests: list[Guest]) -> Guest:
    """A guest on kvm3."""
    return guests[2]


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """What happens inside takes no longer than this."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    print(f"{what} took {took:.1f} s")
    assert took < seconds, f"{what} took {took:.1f} s, not {seconds:g}"


def check_free(*guests: Guest) -> None:
    """Operations on these guests are not held up by anything."""
    for guest in guests:
        with within(10, f"pausing and unpausing {guest.name}"):
            guest.do("pause")
            guest.do("unpause")


def goes_on(guest: Guest, host: str) -> bool:
    """Whether a guest runs again that was hung; an order to pause may be carried out once it wakes up."""
    if guest.state == "paused":
        guest.do("unpause")
    return guest.state == "running" and guest.running_on == [host]


# ------------------------------------------------------------------------------------------------ guests


def test_a_hung_guest_holds_up_nobody_else(site: Site, restarting: Guest, staying: Guest, far: Guest) -> None:
    domain = restarting.domain("kvm1")
    site.lab.kill_guest("kvm1", domain, "STOP")
    try:
        hanging = restarting.begin("pause")
        check_free(far, staying)
        assert site.gateway.operation(hanging.id).state is OperationState.RUNNING
        check_free(staying, far)
        with expect_failure("hang", "restarting"):
            site.gateway.finish(hanging, 90)
        check_free(staying)
        assert site.gateway.host("kvm1").state is HostState.READY
    finally:
        site.lab.kill_guest("kvm1", domain, "CONT")
    wait_until(lambda: goes_on(restarting, "kvm1"), 60, "it goes on", every=1)


def test_a_hung_guest_is_stopped_by_force(site: Site, restarting: Guest) -> None:
    site.lab.kill_guest("kvm1", restarting.domain("kvm1"), "STOP")
    restarting.do("stop")
    assert restarting.state == "stopped"
    assert restarting.running_on == []
    restarting.do("start")
    assert restarting.running_on == ["kvm1"]


def test_a_crashed_guest_is_restarted_by_its_policy(site: Site, restarting: Guest) -> None:
    before = restarting.process("kvm1")
    site.lab.kill_guest("kvm1", restarting.domain("kvm1"))
    # Right after the kill libvirt still calls it running: only another process shows that it was started again.
    wait_until(lambda: restarting.process("kvm1") not in (None, before), 30, "it was started again")
    wait_until(lambda: restarting.running_on == ["kvm1"], 30, "its CPUs run")
    wait_until(lambda: restarting.state == "running", 30, "its state says so")
    newest = site.gateway.operations(restarting.id)[0]
    assert (newest.verb, newest.requested_by) == ("partition.start", "crash policy")


def test_a_crashed_guest_stays_down_by_its_policy(site: Site, staying: Guest) -> None:
    site.lab.kill_guest("kvm1", staying.domain("kvm1"))
    wait_until(lambda: staying.state == "crashed", 30, "the crash was seen")
    assert staying.running_on == []
    staying.do("start")
    assert staying.running_on == ["kvm1"]


# ------------------------------------------------------------------------------------------------ hosts


def test_a_restarted_libvirtd_is_found_again(site: Site, restarting: Guest, staying: Guest, far: Guest) -> None:
    process = restarting.process("kvm1")
    shell = restarting.shell()
    site.lab.kill_libvirtd("kvm1")
    try:
        wait_until(lambda: site.gateway.host("kvm1").state is HostState.UNREACHABLE, 30, "the loss was seen")
        wait_until(lambda: not shell.is_open(), 15, "its console was closed")
        assert restarting.state == "unknown"
        check_free(far)
    finally:
        site.lab.start_libvirtd("kvm1")
    site.wait_for_host("kvm1", HostState.READY, 60)
    wait_until(lambda: {restarting.state, staying.state} == {"running"}, 10, "its guests run")
    assert restarting.process("kvm1") == process
    assert restarting.run("echo still here") == "still here"
    restarting.leave()


def test_a_pulled_cable_and_its_guest(site: Site, staying: Guest, far: Guest) -> None:
    process = far.process("kvm3")
    operations = len(site.gateway.operations(far.id))
    site.lab.link("kvm3", up=False)
    try:
        with within(45, "noticing that kvm3 is silent"):
            site.wait_for_host("kvm3", HostState.UNREACHABLE, 60)
        host = site.gateway.host("kvm3")
        assert "answer" in host.state_reason or "connection" in host.state_reason
        assert far.state == "unknown"
        check_free(staying)
        # Where nobody answers, nothing is said to be done.
        asked = far.begin("stop")
        ended = site.gateway.end(asked, 120)
        assert ended.state is OperationState.FAILED
        assert ended.error is not None
        assert "kvm3" in ended.error.message
    finally:
        site.lab.link("kvm3", up=True)
    site.wait_for_host("kvm3", HostState.READY, 60)
    wait_until(lambda: far.state == "running", 20, "its state is known again")
    assert far.process("kvm3") == process
    assert len(site.gateway.operations(far.id)) == operations + 1
    check_free(far)


def test_a_hung_host_holds_up_nobody_else(site: Site, staying: Guest, far: Guest) -> None:
    process = far.process("kvm3")
    site.lab.freeze("kvm3")
    try:
        hanging = far.begin("pause")
        check_free(staying)
        with expect_failure("kvm3"):
            site.gateway.finish(hanging, 90)
        site.wait_for_host("kvm3", HostState.UNREACHABLE, 60)
        check_free(staying)
    finally:
        site.lab.thaw("kvm3")
    site.wait_for_host("kvm3", HostState.READY, 60)
    wait_until(lambda: goes_on(far, "kvm3"), 60, "its guest goes on", every=1)
    assert far.process("kvm3") == process


def test_a_power_cut_starts_nothing_elsewhere(site: Site, staying: Guest, far: Guest) -> None:
    site.lab.power_cut("kvm3")
    site.wait_for_host("kvm3", HostState.UNREACHABLE, 60)
    assert far.state == "unknown"
    assert far.host == "kvm3"
    check_free(staying)
    assert far.defined_on == []
    epoch = far.view().epoch
    site.lab.start("kvm3")
    site.wait_for_host("kvm3", HostState.READY, 60)
    wait_until(lambda: far.running_on == ["kvm3"], 60, "the crash policy has started it again")
    wait_until(lambda: far.state == "running", 20, "its state says so")
    assert far.view().epoch == epoch
    assert far.run("uname -s") == "Linux"
    far.leave()


# ------------------------------------------------------------------------------------------------ strangers


def test_a_stranger_is_seen_adopted_and_then_ours(site: Site) -> None:
    site.lab.run("kvm1", ["truncate", "-s", "8M", "/lab/local/by-hand.raw"])
    site.lab.run("kvm1", ["virsh", "-q", "define", "/dev/stdin"], STRANGER)
    site.lab.run("kvm1", ["virsh", "-q", "start", "made by hand"])
    wait_until(lambda: site.gateway.strangers("kvm1"), 45, "the stranger was seen")
    (stranger,) = site.gateway.strangers("kvm1")
    assert str(stranger.observed.id) == STRANGER_ID
    assert stranger.observed.name == "made by hand"
    site.gateway.do("POST", f"/hosts/kvm1/strangers/{STRANGER_ID}/adopt", {"name": "adopted"})
    assert site.gateway.strangers("kvm1") == []
    adopted = Guest(site, stranger.observed.id, "adopted")
    view = adopted.view()
    assert (view.name, view.state, view.host_name, view.memory_mib) == ("adopted", "running", "kvm1", 64)
    assert [(nic.mac, nic.network_name) for nic in view.nics] == [("52:54:00:12:34:56", BRIDGED)]
    assert view.drift == ()
    assert adopted.epoch_on("kvm1") == view.epoch
    adopted.do("stop")
    assert adopted.running_on == []
    adopted.delete()
    assert adopted.defined_on == []
    # What it was made of is somebody's own.
    assert site.lab.run("kvm1", ["stat", "-c%s", "/lab/local/by-hand.raw"]).strip() == str(8 * 2**20)
    site.lab.run("kvm1", ["rm", "/lab/local/by-hand.raw"])
