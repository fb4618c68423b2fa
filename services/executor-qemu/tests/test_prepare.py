from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from openqrm.contracts.errors import DriverError, InvalidError, UnsupportedError
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.prepare.plan import OPTIONAL_PACKAGES, PACKAGES, Found, NetworkManager, Wanted, plan
from openqrm.executor_qemu.prepare.probe import probe_script, read_found
from openqrm.executor_qemu.prepare.run import prepare_with
from openqrm.executor_qemu.prepare.runners import Ran

READY = Found(
    os_id="debian",
    os_like="",
    os_name="Debian GNU/Linux 12 (bookworm)",
    root=True,
    missing_packages=(),
    systemd=True,
    libvirt_answers=True,
    virtlogd_runs=True,
    bridge_exists=True,
    network_manager=NetworkManager.IFUPDOWN,
    uplink_exists=False,
    storage_exists=True,
)
WANTED = Wanted("br0", None, "/var/lib/openqrm/disks")
PLAIN = replace(
    READY,
    missing_packages=(*PACKAGES, *OPTIONAL_PACKAGES),
    libvirt_answers=False,
    virtlogd_runs=False,
    bridge_exists=False,
    storage_exists=False,
)


def commands(found: Found, wanted: Wanted = WANTED) -> str:
    return "\n".join(f"{step.command}\n{step.stdin or ''}" for step in plan(found, wanted))


def test_a_prepared_host_needs_nothing() -> None:
    assert plan(READY, WANTED) == ()


def test_a_plain_host_gets_everything() -> None:
    text = commands(PLAIN)
    assert "install qemu-system-x86" in text
    assert "DEBIAN_FRONTEND=noninteractive" in text
    assert "systemctl enable --now" in text
    assert "ip link add br0 type bridge" in text
    assert "install -d -m 0711 '/var/lib/openqrm/disks'" in text


def test_without_systemd_the_daemons_are_started_by_hand() -> None:
    found = replace(READY, systemd=False, libvirt_answers=False, virtlogd_runs=False)
    text = commands(found)
    assert "virtlogd -d" in text
    assert "libvirtd -d" in text
    assert "virtlogd -d" not in commands(replace(found, virtlogd_runs=True))


def test_optional_packages_alone_may_fail() -> None:
    assert all(step.optional for step in plan(replace(READY, missing_packages=("ovmf",)), WANTED))


def test_the_uplink_is_left_alone_unless_it_is_named() -> None:
    assert "eth0" not in commands(replace(READY, bridge_exists=False, uplink_exists=True))
    with pytest.raises(InvalidError, match="eth0"):
        plan(replace(READY, bridge_exists=False), Wanted("br0", "eth0", "/d"))


@pytest.mark.parametrize(
    ("manager", "path", "line"),
    [
        (NetworkManager.NETPLAN, "/etc/netplan/90-openqrm-br0.yaml", 'addresses: ["10.0.0.2/24"]'),
        (NetworkManager.NETWORKD, "/etc/systemd/network/10-openqrm-br0.netdev", "Bridge=br0"),
        (NetworkManager.IFUPDOWN, "/etc/network/interfaces.d/openqrm-br0", "gateway 10.0.0.1"),
    ],
)
def test_the_bridge_survives_a_reboot(manager: NetworkManager, path: str, line: str) -> None:
    found = replace(
        READY,
        bridge_exists=False,
        uplink_exists=True,
        network_manager=manager,
        uplink_addresses=("10.0.0.2/24",),
        uplink_gateway="10.0.0.1",
    )
    text = commands(found, Wanted("br0", "eth0", "/d"))
    assert path in text
    assert line in text
    assert "ip link set eth0 master br0 && ip addr flush dev eth0 && ip addr add 10.0.0.2/24 dev br0" in text


def test_a_bridge_that_nothing_keeps_says_so() -> None:
    steps = plan(replace(READY, bridge_exists=False, network_manager=NetworkManager.NONE), WANTED)
    assert any("goes with a reboot" in step.after for step in steps)


@pytest.mark.parametrize("name", ["br0; reboot", "a" * 16, "br 0", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        plan(READY, Wanted(name, None, "/d"))


def test_only_root_and_debian_kin() -> None:
    with pytest.raises(UnsupportedError, match="root"):
        plan(replace(READY, root=False), WANTED)
    with pytest.raises(UnsupportedError, match="Debian"):
        plan(replace(READY, os_id="fedora", os_name="Fedora"), WANTED)
    assert plan(replace(READY, os_id="linuxmint", os_like="ubuntu debian"), WANTED) == ()


def test_a_prepared_host_as_it_was_recorded(recorded: Callable[[str], str]) -> None:
    found = read_found(recorded("debian-12-probe-prepared.txt"))
    assert (found.os_id, found.root, found.libvirt_answers, found.bridge_exists) == ("debian", True, True, True)
    assert plan(found, WANTED) == ()


def test_a_plain_host_as_it_was_recorded(recorded: Callable[[str], str]) -> None:
    found = read_found(recorded("debian-12-probe-plain.txt"))
    assert (found.libvirt_answers, found.bridge_exists, found.storage_exists) == (False, False, False)
    assert (found.uplink_exists, found.uplink_addresses) == (True, ("10.77.0.31/24",))


def test_the_probe_quotes_what_it_is_given() -> None:
    assert "'/a b; reboot'" in probe_script(Wanted("br0", None, "/a b; reboot"))


class FakeRunner:
    """Answers commands from a table; the probe with a fixed output."""

    def __init__(self, probe: str, failing: str = "") -> None:
        self._probe = probe
        self._failing = failing
        self.ran: list[str] = []

    async def run(self, command: str, stdin: str = "") -> Ran:
        if "os-release" in command:
            return Ran(0, self._probe, "")
        self.ran.append(command)
        if self._failing and self._failing in command:
            return Ran(100, "", "E: Unable to locate package")
        return Ran(0, "", "")


async def test_what_was_changed_is_returned(recorded: Callable[[str], str]) -> None:
    runner = FakeRunner(recorded("debian-12-probe-plain.txt"))
    changes = await prepare_with(runner, "kvm9", WANTED, Work(uuid4()))
    assert [change.what for change in changes][:2] == ["virtlogd", "libvirtd"]
    again = FakeRunner(recorded("debian-12-probe-prepared.txt"))
    assert await prepare_with(again, "kvm9", WANTED, Work(uuid4())) == ()
    assert again.ran == []


async def test_a_step_that_fails_ends_it_with_its_words() -> None:
    probe = "os_id=debian\nuid=0\nmissing=libvirt-daemon-system\nbridge=yes\nstorage=yes\nlibvirt=yes\n"
    with pytest.raises(DriverError, match="Unable to locate"):
        await prepare_with(FakeRunner(probe, failing="install libvirt"), "kvm9", WANTED, Work(uuid4()))


async def test_an_optional_package_that_fails_is_no_failure() -> None:
    probe = "os_id=debian\nuid=0\nmissing=ovmf\nbridge=yes\nstorage=yes\nlibvirt=yes\n"
    assert await prepare_with(FakeRunner(probe, failing="install ovmf"), "kvm9", WANTED, Work(uuid4())) == ()
