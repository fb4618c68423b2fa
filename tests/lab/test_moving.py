"""Moves between hosts: live, stopped, cancelled, and with a libvirtd killed in the middle. Never two that run."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from product import Guest, Site, expect_refusal, sleep, wait_until
from qemu_lab import CHAP_TARGET

from openqrm.contracts.operation import OperationView
from openqrm.contracts.states import HostState, OperationState

pytestmark = pytest.mark.lab

ADDRESS = "10.77.0.150"
LONGEST_PAUSE_SECONDS = 4.0
"""Under emulation on two busy cores; measured are 0.1 to 0.5 s."""
COUNTER = "n=0; while :; do n=$((n + 1)); echo $n; sleep 1; done"
DIRT = "while :; do dd if=/dev/urandom of=/dev/shm/dirt bs=1M count=24 2> /dev/null; done"
SLOW = 4
"""MiB/s: the guest's memory takes far longer than a test at this rate."""


@pytest.fixture(scope="module")
def guest(site: Site) -> Iterator[Guest]:
    """A guest on kvm1 that counts seconds, and answers pings of the controller."""
    made = site.guest("moving", "kvm1")
    shell = made.shell()
    shell.run(f"ip addr add {ADDRESS}/24 dev eth0")
    shell.start(COUNTER, "count")
    yield made
    made.leave()


@dataclass
class Silence:
    """How long the guest did not answer, at the most."""

    answers: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """Seconds between two answers."""
        return max(later - earlier for earlier, later in zip(self.answers, self.answers[1:], strict=False))


@contextmanager
def listening(site: Site) -> Iterator[Silence]:
    """Ping the guest ten times a second, meanwhile."""
    silence = Silence()
    pinging = site.lab.popen_in_controller(["ping", "-D", "-n", "-i", "0.1", ADDRESS], stdout=subprocess.PIPE)
    sleep(1)
    try:
        yield silence
        sleep(2)
    finally:
        pinging.send_signal(signal.SIGINT)
        output, _ = pinging.communicate(timeout=10)
    silence.answers += [float(line[1:].split("]")[0]) for line in output.splitlines() if "bytes from" in line]


def count(guest: Guest) -> int:
    """How far the guest has counted; AssertionError when it left a number out."""
    numbers = [int(line) for line in guest.run("cat /tmp/count").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)), "the guest began anew, or lost a part"
    return numbers[-1]


def check_one(site: Site, guest: Guest, host: str) -> None:
    """The guest runs on this host, is known to no other, and its record says the same."""
    assert guest.running_on == [host]
    assert guest.defined_on == [host]
    view = guest.view()
    assert (view.state, view.host_name, view.target_host_id) == ("running", host, None)
    assert guest.epoch_on(host) <= view.epoch


def check_counting(guest: Guest, before: int) -> None:
    """The guest went on where it was."""
    wait_until(lambda: count(guest) > before, 10, "the guest counts on")


def reserved(site: Site) -> dict[str, tuple[int, int]]:
    """Memory and partitions that inventory has reserved on each host."""
    hosts = (site.gateway.host(name) for name in site.libvirt_hosts)
    return {host.name: (host.memory_reserved_mib, host.partitions) for host in hosts}


def move_live(site: Site, guest: Guest, target: str) -> None:
    before, epoch, source = count(guest), guest.view().epoch, guest.host
    with listening(site) as silence:
        operation = guest.do("migrate", host=target)
    assert operation.progress == 100
    check_one(site, guest, target)
    assert guest.view().epoch == epoch + 1
    assert guest.epoch_on(target) == epoch + 1
    assert silence.longest < LONGEST_PAUSE_SECONDS
    check_counting(guest, before)
    assert reserved(site)[source] == (0, 0)
    assert reserved(site)[target] == (guest.view().memory_mib, 1)
    print(f"silent for {silence.longest:.2f} s at the most")


def test_live_with_its_disks(site: Site, guest: Guest) -> None:
    move_live(site, guest, "kvm2")
    assert site.volumes("kvm1") == set()
    assert len(site.volumes("kvm2")) == 1


def test_live_on_shared_storage(site: Site, guest: Guest) -> None:
    volumes = site.volumes("kvm2")
    move_live(site, guest, "kvm3")
    assert site.volumes("kvm3") == volumes
    guest.run("dd if=/dev/vda of=/dev/null bs=64k count=16 2> /dev/null")


def test_to_where_it_is_or_to_nowhere_is_refused(site: Site, guest: Guest) -> None:
    with expect_refusal(404, "kvm9"):
        guest.begin("migrate", host="kvm9")
    with expect_refusal(409, "kvm3", "already"):
        guest.begin("migrate", host="kvm3")
    check_one(site, guest, "kvm3")


def under_way(site: Site, guest: Guest, target: str) -> OperationView:
    """Begin a move that takes long, and wait until memory goes over."""
    operation = guest.begin("migrate", host=target, bandwidth_mib_s=SLOW)

    def goes() -> bool:
        return "Time elapsed" in site.lab.run(guest.host, ["virsh", "-q", "domjobinfo", str(guest.id)])

    wait_until(goes, 30, "the migration is under way")
    sleep(1.5)
    return operation


@pytest.fixture
def dirty(guest: Guest) -> Iterator[None]:
    """The guest writes to its memory all the time."""
    shell = guest.shell()
    shell.start(DIRT, "dirt")
    yield
    shell = guest.shell()
    shell.run("pkill -f 'while :; do dd'; rm -f /dev/shm/dirt")


@pytest.mark.usefixtures("dirty")
def test_a_cancelled_move_leaves_it_where_it_was(site: Site, guest: Guest) -> None:
    before, volumes = count(guest), site.volumes("kvm3")
    operation = under_way(site, guest, "kvm1")
    guest_view = guest.view()
    assert guest_view.state == "migrating"
    site.gateway.cancel(operation)
    ended = site.gateway.end(operation, 60)
    assert ended.state is OperationState.CANCELLED
    check_one(site, guest, "kvm3")
    check_counting(guest, before)
    assert site.volumes("kvm1") == set()
    assert site.volumes("kvm3") == volumes
    assert reserved(site)["kvm1"] == (0, 0)


@pytest.mark.usefixtures("dirty")
def test_the_targets_libvirtd_is_killed(site: Site, guest: Guest) -> None:
    before = count(guest)
    operation = under_way(site, guest, "kvm2")
    site.lab.kill_libvirtd("kvm2")
    try:
        ended = site.gateway.end(operation, 120)
    finally:
        site.lab.start_libvirtd("kvm2")
    assert ended.state is OperationState.FAILED
    assert ended.error is not None
    assert "kvm" in ended.error.message
    wait_until(lambda: guest.state == "running" and guest.host == "kvm3", 90, "its state is known again")
    wait_until(lambda: guest.running_on == ["kvm3"], 10, "it runs on its source")
    check_counting(guest, before)
    site.wait_for_host("kvm2", HostState.READY, 90)
    assert "kvm2" not in guest.running_on


@pytest.mark.usefixtures("dirty")
def test_the_sources_libvirtd_is_killed(site: Site, guest: Guest) -> None:
    before = count(guest)
    operation = under_way(site, guest, "kvm2")
    site.lab.kill_libvirtd("kvm3")
    sleep(3)
    site.lab.start_libvirtd("kvm3")
    ended = site.gateway.end(operation, 150)
    assert ended.state is OperationState.FAILED
    assert ended.error is not None
    site.wait_for_host("kvm3", HostState.READY, 90)
    wait_until(lambda: guest.state == "running", 90, "its state is known again")
    assert len(guest.running_on) == 1
    assert guest.running_on == [guest.host]
    check_counting(guest, before)


def test_a_move_after_failed_ones_is_whole(site: Site, guest: Guest) -> None:
    move_live(site, guest, "kvm2" if guest.host == "kvm3" else "kvm3")


def test_a_network_disk_goes_with_its_password(site: Site, guest: Guest) -> None:
    assert CHAP_TARGET.password is not None
    source = {
        "kind": "network",
        "protocol": "iscsi",
        "server": CHAP_TARGET.portal.partition(":")[0],
        "volume": f"{CHAP_TARGET.iqn}/{CHAP_TARGET.lun}",
        "username": CHAP_TARGET.user,
        "password": CHAP_TARGET.password,
    }
    target = guest.attach_disk(source)
    wait_until(lambda: target in guest.run("cat /proc/partitions"), 20, "the guest has the disk")
    guest.run(f"echo before the move | dd of=/dev/{target} bs=512 conv=sync,fsync 2> /dev/null")
    left = guest.host
    move_live(site, guest, "kvm1")
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    assert "before the move" in guest.run(f"dd if=/dev/{target} bs=512 count=1 2> /dev/null")
    assert site.lab.run(left, ["virsh", "-q", "secret-list"]).strip() == ""
    guest.detach_disk(target)
    assert site.lab.run("kvm1", ["virsh", "-q", "secret-list"]).strip() == ""
    guest.do("migrate", host="kvm3")


def test_regular_of_a_running_one(site: Site, guest: Guest) -> None:
    before = count(guest)
    guest.do("migrate", host="kvm1", live=False)
    check_one(site, guest, "kvm1")
    check_counting(guest, before)


def test_of_a_paused_one_it_stays_paused(site: Site, guest: Guest) -> None:
    before = count(guest)
    guest.do("pause")
    guest.do("migrate", host="kvm2")
    assert (guest.state, guest.host) == ("paused", "kvm2")
    assert guest.running_on == []
    assert guest.defined_on == ["kvm2"]
    guest.do("unpause")
    check_one(site, guest, "kvm2")
    check_counting(guest, before)


def test_of_a_stopped_one_its_data_goes_with_it(site: Site, guest: Guest) -> None:
    target = guest.attach_disk({"kind": "blank", "size_mib": 8})
    wait_until(lambda: target in guest.run("cat /proc/partitions"), 20, "the guest has the disk")
    guest.run(f"echo moved with its data | dd of=/dev/{target} bs=512 conv=sync,fsync 2> /dev/null")
    guest.leave()
    guest.do("stop")
    epoch = guest.view().epoch
    guest.do("migrate", host="kvm1", live=False)
    assert (guest.state, guest.host) == ("stopped", "kvm1")
    assert guest.defined_on == ["kvm1"]
    assert len(site.volumes("kvm1")) == 2
    assert site.volumes("kvm2") == set()
    guest.do("start")
    assert guest.epoch_on("kvm1") == epoch + 1
    assert "moved with its data" in guest.run(f"dd if=/dev/{target} bs=512 count=1 2> /dev/null")
    check_one(site, guest, "kvm1")
