"""The fake driver keeps the driver contract, in memory and with its hosts in files."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.host import HostConnection
from openqrm.contracts.ids import new_id
from openqrm.driver.capabilities import Host
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.world import FakeWorld
from openqrm.testkit.driver_contract import DriverContract, Hands


def fake_host(name: str, words: str = "") -> Host:
    return Host(new_id(), name, HostConnection(uri=f"fake://{name}?latency_ms=1&migration_ms=20{words}"))


class FakeHands(Hands):
    bridges = ("br0", "br1")
    guest_listens = True

    def __init__(self, world: FakeWorld) -> None:
        self.world = world

    async def crash(self, host: Host, partition_id: UUID) -> None:
        self.world.host(host.connection).crash(partition_id)

    async def stop_by_hand(self, host: Host, partition_id: UUID) -> None:
        self.world.host(host.connection).switch_off(partition_id, "stopped by hand")

    async def undefine_by_hand(self, host: Host, partition_id: UUID) -> None:
        self.world.host(host.connection).remove_by_hand(partition_id)

    async def make_stranger(self, host: Host, name: str) -> UUID:
        return self.world.host(host.connection).add_stranger(name)

    async def remove_stranger(self, host: Host, partition_id: UUID) -> None:
        self.world.host(host.connection).remove_by_hand(partition_id)

    async def lose(self, host: Host) -> None:
        self.world.host(host.connection).lose()

    async def find(self, host: Host) -> None:
        self.world.host(host.connection).find()

    async def volumes(self, host: Host, partition_id: UUID) -> set[str]:
        return {path for path in self.world.host(host.connection).read().volumes if str(partition_id) in path}

    async def cpu_pins(self, host: Host, partition_id: UUID) -> dict[int, tuple[int, ...]]:
        found = self.world.host(host.connection).get(partition_id)
        return dict(found.cpu_pins) if found else {}

    async def boots(self, host: Host, partition_id: UUID) -> int:
        found = self.world.host(host.connection).get(partition_id)
        return found.starts if found else 0


class TestContract(DriverContract):
    package = "openqrm.executor_fake"

    @pytest.fixture
    def folder(self) -> Path | None:
        return None

    @pytest.fixture
    async def driver(self, folder: Path | None) -> AsyncIterator[FakeDriver]:
        clock = SystemClock()
        world = FakeWorld(clock, folder)
        driver = FakeDriver(world, clock)
        yield driver
        await driver.close()
        world.stop()
        assert world.ran_twice == []

    @pytest.fixture
    async def hands(self, driver: FakeDriver) -> FakeHands:
        return FakeHands(driver.world)

    @pytest.fixture
    async def host(self) -> Host:
        return fake_host("host-1")

    @pytest.fixture
    async def second_host(self) -> Host:
        return fake_host("host-2")

    @pytest.fixture
    async def unreachable_host(self) -> Host:
        return fake_host("host-3", "&unreachable=yes")

    @pytest.fixture
    async def plain_host(self) -> Host:
        return fake_host("host-4", "&prepared=no")


class TestContractInFiles(TestContract):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "hosts"
