"""Fixtures and helpers that all parts of the contract use."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest

from openqrm.contracts.clock import Clock, SystemClock
from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import ObservedPartition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Driver, Host, Work
from openqrm.driver.manifest import load_manifest
from openqrm.testkit.definitions import disk_definition, partition_definition
from openqrm.testkit.driver_contract.hands import Hands

Define = Callable[..., PartitionDefinition]
T = TypeVar("T")

_macs = count(1)


class ContractBase:
    """What a driver's tests supply, and what they get."""

    package: ClassVar[str]
    """Where the driver.toml lies."""
    patience: ClassVar[float] = 60.0
    """Seconds after which a test gives up waiting for the driver."""

    # -------------------------------------------------------------------------------------------- supplied

    @pytest.fixture
    async def driver(self) -> Any:
        """The driver, not connected to anything."""
        raise NotImplementedError("a driver's contract test supplies its driver")

    @pytest.fixture
    async def host(self) -> Any:
        """A host that it can connect to."""
        raise NotImplementedError("a driver's contract test supplies a host")

    @pytest.fixture
    async def hands(self) -> Any:
        """Hands on that host."""
        return Hands()

    @pytest.fixture
    async def second_host(self) -> Any:
        """Another host, to which partitions can be moved."""
        pytest.skip("no second host is supplied")

    @pytest.fixture
    async def unreachable_host(self) -> Any:
        """A host that does not answer."""
        pytest.skip("no unreachable host is supplied")

    @pytest.fixture
    async def plain_host(self) -> Any:
        """A host without hypervisor, that can be prepared."""
        pytest.skip("no plain host is supplied")

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the contract waits by; the driver's own."""
        return SystemClock()

    # -------------------------------------------------------------------------------------------- given

    @pytest.fixture
    def manifest(self) -> Manifest:
        """What the driver declares."""
        return load_manifest(self.package)

    @pytest.fixture
    async def connected(self, driver: Driver, host: Host) -> Host:
        """The host, connected."""
        await driver.connect(host)
        return host

    @pytest.fixture
    async def define(self, driver: Driver, connected: Host, manifest: Manifest) -> AsyncIterator[Define]:
        """Makes definitions with one small disk; whatever became of them is removed from the host at the end."""
        made: list[PartitionDefinition] = []

        def make(**changes: Any) -> PartitionDefinition:
            changes.setdefault("disks", (disk_definition(size_mib=16),))
            partition = partition_definition(manifest.technology, **changes)
            made.append(partition)
            return partition

        yield make
        for partition in made:
            await self.remove(driver, connected, partition)

    async def remove(self, driver: Driver, host: Host, partition: PartitionDefinition) -> None:
        """Remove a partition from a host, whatever its state and its epoch."""
        with suppress(OpenQrmError):
            found = await driver.observe_partition(host, partition.id)
            if found is None:
                return
            newest = partition.model_copy(update={"epoch": max(partition.epoch, found.epoch or 1)})
            await driver.stop(host, newest, work())
            await driver.delete(host, newest, work())

    # -------------------------------------------------------------------------------------------- helpers

    def needs(self, manifest: Manifest, capability: Capability) -> None:
        """Skip the test when the capability is not declared; that it is refused then, another test shows."""
        if capability not in manifest.capabilities:
            pytest.skip(f"{capability} is not declared: {manifest.unsupported[capability]}")

    async def state(self, driver: Driver, host: Host, partition_id: UUID) -> ObservedState | None:
        """The state on the host; None when it is not there."""
        found = await driver.observe_partition(host, partition_id)
        return found.state if found else None

    async def found(self, driver: Driver, host: Host, partition_id: UUID) -> ObservedPartition:
        """The partition on the host, which must be there."""
        found = await driver.observe_partition(host, partition_id)
        assert found is not None, "the host does not have it"
        return found

    async def in_time(self, awaitable: Awaitable[T], seconds: float | None = None) -> T:
        """Await it, for so long and no longer."""
        async with asyncio.timeout(seconds or self.patience):
            return await awaitable

    async def running(self, driver: Driver, host: Host, partition: PartitionDefinition) -> PartitionDefinition:
        """Create and start it."""
        await driver.create(host, partition, work())
        await driver.start(host, partition, work())
        return partition


def work(**changes: Any) -> Work:
    """An execution."""
    return Work(new_id(), **changes)


def new_mac(hands: Hands) -> str:
    """An address that no other NIC of the tests has."""
    return f"{hands.mac_prefix}{next(_macs) % 256:02x}"
