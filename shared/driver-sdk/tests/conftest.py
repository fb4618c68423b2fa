"""A real nats-server, inventory's part played by a stand-in, and executors of fake hosts."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.execution import (
    ExecuteCancelOperation,
    ExecuteCreatePartition,
    ExecuteMigratePartition,
    PartitionExecution,
)
from openqrm.contracts.host import HostConnected, HostConnection, HostView
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionDefinition
from openqrm.driver.executor import ExecutorService, ExecutorSettings
from openqrm.driver.manifest import load_manifest
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.world import FakeWorld
from openqrm.testkit.definitions import partition_definition
from openqrm.testkit.inventory import InventoryStub, host_view
from openqrm.testkit.nats import NatsServer, nats_server
from openqrm.testkit.waiting import eventually

QUICK: dict[str, Any] = {
    "ping_interval": 0.1,
    "ping_timeout": 0.3,
    "observe_interval": 0.1,
    "reconnect_first": 0.1,
    "reconnect_longest": 0.3,
    "set_aside": 0.1,
    "unreachable_limit": 0.8,
    "retry_limit": 1.5,
    "cancel_grace": 0.3,
    "drain_limit": 0.3,
}


class Bench:
    """What a test works with."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.clock = SystemClock()
        self.world = FakeWorld(self.clock)
        self.inventory = InventoryStub(server, self.clock)
        self.executors: list[ExecutorService] = []

    async def executor(self, driver: Any = None, manifest: Any = None, **settings: Any) -> ExecutorService:
        """Start an executor."""
        service = ExecutorService(
            driver or FakeDriver(self.world, self.clock),
            manifest or load_manifest("openqrm.executor_fake"),
            self.server.bus("executor-fake", self.clock),
            self.clock,
            ExecutorSettings(**QUICK | settings),
            "1.2.3",
        )
        self.executors.append(service)
        await service.start()
        return service

    async def stop(self, service: ExecutorService) -> None:
        """Stop one executor."""
        self.executors.remove(service)
        await service.stop()

    def host(self, name: str, words: str = "", **changes: Any) -> HostView:
        """Inventory knows one more host."""
        view = host_view("fake", HostConnection(uri=f"fake://{name}{words}"), self.clock, name=name, **changes)
        self.inventory.hosts[view.id] = view
        return view

    def fake(self, view: HostView) -> FakeHost:
        """The simulated host."""
        return self.world.host(view.connection)

    async def connected(self, *views: HostView) -> None:
        """Wait until the executor has connected the hosts."""
        wanted = {view.id for view in views}
        await self.inventory.until(
            lambda: wanted <= {event.host_id for event in self.inventory.heard(HostConnected)}, what="host.connected"
        )

    async def ready(self, *names: str, **settings: Any) -> tuple[HostView, ...]:
        """An executor with these hosts connected."""
        views = tuple(self.host(name) for name in names or ("h1",))
        await self.executor(**settings)
        await self.connected(*views)
        return views

    def command(self, model: type[Any], view: HostView, partition: PartitionDefinition, **more: Any) -> Any:
        """A routed command on a partition."""
        fields = {"operation_id": new_id(), "host_id": view.id, "technology": "fake", "partition": partition}
        return model(**fields | more)

    async def run(self, view: HostView, **changes: Any) -> PartitionDefinition:
        """A partition that runs on a host, made by commands."""
        partition = partition_definition("fake", **changes)
        await self.inventory.success(self.command(ExecuteCreatePartition, view, partition, start=True))
        return partition

    def migration(
        self, source: HostView, target: HostView, partition: PartitionDefinition, **more: Any
    ) -> ExecuteMigratePartition:
        """The command that moves a partition, with the next epoch."""
        newer = partition.model_copy(update={"epoch": partition.epoch + 1})
        self.inventory.place(partition.id, newer.epoch, source.id, target.id)
        fields: dict[str, Any] = {"target_host_id": target.id, "target_nics": (), "live": True} | more
        command = self.command(ExecuteMigratePartition, source, newer, **fields)
        assert isinstance(command, PartitionExecution)
        return command

    def cancel(self, view: HostView, operation_id: UUID) -> ExecuteCancelOperation:
        """The command that cancels an execution."""
        return ExecuteCancelOperation(operation_id=operation_id, host_id=view.id, technology="fake", partition_id=None)


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    async with nats_server() as server:
        yield server


@pytest.fixture
async def bench(server: NatsServer) -> AsyncIterator[Bench]:
    bench = Bench(server)
    await bench.inventory.start()
    yield bench
    for host in bench.world.hosts.values():
        host.recover()
    for service in list(bench.executors):
        await bench.stop(service)
    await bench.inventory.stop()
    bench.world.stop()
    assert bench.world.ran_twice == []


__all__ = ["Bench", "eventually"]
