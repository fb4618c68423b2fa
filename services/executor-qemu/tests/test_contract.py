"""The QEMU driver keeps the driver contract, on two libvirtds of the tests' own.

Guests boot the BIOS and nothing more: what needs a guest that listens is tried in the lab.
"""

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from private_libvirtd import PrivateLibvirtd

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.host import HostConnection
from openqrm.contracts.ids import new_id
from openqrm.driver.capabilities import Host
from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.driver import QemuDriver, create_driver
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.tunnels import TransportLoop
from openqrm.testkit.driver_contract import DriverContract, Hands

pytestmark = pytest.mark.lab


def host_on(daemon: PrivateLibvirtd, name: str) -> Host:
    connection = HostConnection(
        uri=daemon.uri,
        storage_path=str(daemon.folder / "disks"),
        migration_address="127.0.0.1",
        options={"acceleration": "tcg"},
    )
    return Host(new_id(), name, connection)


class PrivateHands(Hands):
    bridges = ("br0", "br1")

    def __init__(self, daemons: dict[str, PrivateLibvirtd]) -> None:
        self._daemons = daemons

    def _on(self, host: Host) -> PrivateLibvirtd:
        return self._daemons[host.connection.uri]

    async def crash(self, host: Host, partition_id: UUID) -> None:
        self._on(host).kill_guest(str(partition_id))

    async def stop_by_hand(self, host: Host, partition_id: UUID) -> None:
        self._on(host).virsh("destroy", str(partition_id))

    async def undefine_by_hand(self, host: Host, partition_id: UUID) -> None:
        self._on(host).virsh("undefine", str(partition_id))

    async def make_stranger(self, host: Host, name: str) -> UUID:
        domain = ET.Element("domain", {"type": "qemu"})
        for tag, text in {"name": name, "uuid": str(new_id()), "memory": "65536", "vcpu": "1"}.items():
            ET.SubElement(domain, tag).text = text
        ET.SubElement(ET.SubElement(domain, "os"), "type", {"arch": "x86_64"}).text = "hvm"
        path = self._on(host).folder / "stranger.xml"
        path.write_bytes(ET.tostring(domain))
        self._on(host).virsh("define", str(path))
        return UUID(domain.findtext("uuid", ""))

    async def remove_stranger(self, host: Host, partition_id: UUID) -> None:
        self._on(host).virsh("undefine", str(partition_id))

    async def lose(self, host: Host) -> None:
        self._on(host).kill_libvirtd()

    async def find(self, host: Host) -> None:
        self._on(host).start_libvirtd()

    async def volumes(self, host: Host, partition_id: UUID) -> set[str]:
        return volumes_in(host, partition_id)

    async def cpu_pins(self, host: Host, partition_id: UUID) -> dict[int, tuple[int, ...]]:
        domain = parse_xml(self._on(host).virsh("dumpxml", str(partition_id)))
        pins = {int(p.get("vcpu", "")): p.get("cpuset", "") for p in domain.findall("cputune/vcpupin")}
        return {vcpu: tuple(map(int, cpus.split(","))) for vcpu, cpus in pins.items() if "-" not in cpus}


def volumes_in(host: Host, partition_id: UUID) -> set[str]:
    return {path.name for path in Path(host.connection.storage_path).glob(f"{partition_id}-*")}


@pytest.fixture(scope="module")
def daemons(
    libvirtd: PrivateLibvirtd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrivateLibvirtd, PrivateLibvirtd]]:
    second = PrivateLibvirtd(tmp_path_factory.mktemp("second"), beside=libvirtd)
    yield libvirtd, second
    second.close()


class TestContract(DriverContract):
    package = "openqrm.executor_qemu"

    @pytest.fixture
    async def driver(self, libvirtd: PrivateLibvirtd) -> AsyncIterator[QemuDriver]:
        settings = QemuSettings(release_timeout_seconds=2, balloon_timeout_seconds=2)
        driver = create_driver(SystemClock(), settings)
        driver._transport = TransportLoop()
        driver._transport.call(libvirtd.enter_network)
        yield driver
        await driver.close()

    @pytest.fixture
    async def host(self, daemons: tuple[PrivateLibvirtd, PrivateLibvirtd]) -> Host:
        return host_on(daemons[0], "first")

    @pytest.fixture
    async def second_host(self, daemons: tuple[PrivateLibvirtd, PrivateLibvirtd]) -> Host:
        return host_on(daemons[1], "second")

    @pytest.fixture
    async def unreachable_host(self, tmp_path: Path) -> Host:
        return Host(new_id(), "silent", HostConnection(uri=f"qemu:///system?socket={tmp_path}/nobody"))

    @pytest.fixture
    async def hands(self, daemons: tuple[PrivateLibvirtd, PrivateLibvirtd]) -> Any:
        return PrivateHands({daemon.uri: daemon for daemon in daemons})
