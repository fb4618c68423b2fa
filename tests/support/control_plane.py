"""A whole control plane for tests: real NATS and PostgreSQL, inventory, scheduler and the fake executor."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.follow import Followed
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import EVENTS, provision
from openqrm.contracts.clock import Clock, SystemClock
from openqrm.contracts.host import EnrolHost, GetHost, HostConnection, HostEvent, HostView
from openqrm.contracts.ids import new_id
from openqrm.contracts.message import (
    CLIENT,
    EXECUTOR,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    Command,
    Event,
    Query,
    message_for,
)
from openqrm.contracts.network import CreateNetwork
from openqrm.contracts.operation import OperationEvent, OperationView
from openqrm.contracts.partition import CreatePartition, GetPartition, PartitionEvent, PartitionView
from openqrm.driver.executor import ExecutorService
from openqrm.driver.executor.settings import ExecutorSettings
from openqrm.driver.manifest import load_manifest
from openqrm.embedded.account import service_account
from openqrm.embedded.nats import EmbeddedNats, NatsUser
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.embedded.state import StateFolder
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.world import FakeWorld
from openqrm.inventory.app import InventoryService
from openqrm.inventory.settings import InventorySettings
from openqrm.scheduler.app import SchedulerService
from openqrm.scheduler.settings import SchedulerSettings
from openqrm.telemetry.tracing import Tracing

Result = TypeVar("Result", bound=BaseModel)

ROLES = {
    INVENTORY: INVENTORY,
    SCHEDULER: SCHEDULER,
    HA_MONITOR: HA_MONITOR,
    "executor-fake": EXECUTOR,
    "client": CLIENT,
}
PATIENCE_SECONDS = 30.0

QUICK_EXECUTOR = ExecutorSettings(
    default_timeout=3.0,
    cancel_grace=0.2,
    retry_limit=0.5,
    unreachable_limit=1.0,
    set_aside=0.2,
    drain_limit=1.0,
    ping_interval=0.2,
    ping_timeout=1.0,
    ping_failures=1,
    connect_timeout=2.0,
    observe_interval=0.5,
    reconnect_first=0.1,
    reconnect_longest=0.5,
)
"""The same behaviour as in production, with everything that waits made short."""


def quick_inventory(dsn: str, **changes: object) -> InventorySettings:
    """Settings of inventory with everything that waits made short."""
    short = {"sweep_seconds": 0.3, "stuck_seconds": 1.0, "waiting_seconds": 2.0, "heartbeat_seconds": 0.5}
    return InventorySettings(**{"dsn": dsn, **short, **changes})


@dataclass
class ControlPlane:
    """The running services, and a client of the bus with a client's rights only."""

    nats: EmbeddedNats
    postgres: EmbeddedPostgres
    dsn: str
    clock: Clock
    world: FakeWorld
    passwords: dict[str, str]
    client: Bus = field(init=False)
    inventory: InventoryService = field(init=False)
    scheduler: SchedulerService = field(init=False)
    executor: ExecutorService = field(init=False)
    events: list[tuple[str, BaseModel]] = field(default_factory=list)
    _log_read: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def bus(self, user: str) -> Bus:
        """A connection as one of the users."""
        settings = BusSettings(url=self.nats.url, user=user, password=self.passwords[user])
        return Bus(settings, user, self.clock, Tracing(user))

    async def on_event(self, followed: Followed) -> None:
        """Remember an event and wake those who wait for one."""
        model = message_for(followed.subject)
        assert model is not None
        async with self._news:
            self.events.append((followed.subject, model.model_validate_json(followed.body)))
            self._news.notify_all()

    async def ask(self, query: Query[Result]) -> Result:
        """Ask a query as a client."""
        return await self.client.request(query)

    async def run(self, command: Command) -> OperationView:
        """Publish a command and await the end of its operation."""
        await self.client.publish(command)
        return await self.end_of(command.operation_id)

    async def end_of(self, operation_id: UUID) -> OperationView:
        """Await the end of an operation."""
        return await self.operation(operation_id, "succeeded", "failed", "cancelled", "rejected")

    async def operation(self, operation_id: UUID, *states: str) -> OperationView:
        """Await that an operation is in one of the states."""

        def find() -> OperationView | None:
            for _, event in reversed(self.events):
                if isinstance(event, OperationEvent) and event.operation.id == operation_id:
                    return event.operation if event.operation.state in states else None
            return None

        async with self._news, asyncio.timeout(PATIENCE_SECONDS):
            while (found := find()) is None:
                await self._news.wait()
            return found

    async def event(self, subject: str, after: int = 0, **fields: object) -> BaseModel:
        """Await an event of a subject, beyond the first `after` events, whose fields have the given values."""

        def matches(event: BaseModel) -> bool:
            return all(getattr(event, name) == value for name, value in fields.items())

        async with self._news, asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for name, event in self.events[after:]:
                    if name == subject and matches(event):
                        return event
                await self._news.wait()

    async def publish(self, event: Event, user: str = "executor-fake") -> int | None:
        """Publish an event as one of the services does."""
        bus = self.bus(user)
        await bus.connect()
        try:
            return await bus.publish(event)
        finally:
            await bus.stop()

    async def told(self, operation: OperationView, *subjects: str) -> None:
        """Await that just these facts were told of an operation's target, in this order; what else changed aside."""

        def facts() -> tuple[str, ...]:
            return tuple(
                subject
                for subject, event in self.events
                if isinstance(event, PartitionEvent | HostEvent)
                and event.operation_id == operation.id
                and not subject.endswith(".changed")
            )

        async with self._news:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS / 6):
                    while facts() != subjects:
                        await self._news.wait()
            except TimeoutError:
                raise AssertionError(f"{facts()} were told, not {subjects}") from None

    async def enrol(self, name: str, uri: str | None = None, **options: object) -> OperationView:
        """Enrol a fake host."""
        connection = HostConnection(uri=uri or f"fake://{name}?cpus=8&memory_mib=16384")
        return await self.run(EnrolHost(name=name, technology="fake", connection=connection, **options))

    async def ready_host(self, name: str, plan: str = "cpus=8&memory_mib=16384", **options: object) -> HostView:
        """Enrol a fake host of a machine of its own, which must become ready."""
        ended = await self.enrol(name, f"fake://{new_id().hex}?{plan}", **options)
        assert ended.state == "succeeded", ended.error
        return await self.host(str(ended.target_id))

    def fake(self, host: HostView) -> FakeHost:
        """The simulated host behind one of ours."""
        return self.world.host(host.connection)

    async def make(self, name: str, host: str | None = None, **wishes: object) -> PartitionView:
        """Create a small partition, which must succeed."""
        fields = {"name": name, "technology": "fake", "host": host, "memory_mib": 256, **wishes}
        ended = await self.run(CreatePartition(**fields))
        assert ended.state == "succeeded", ended.error
        return await self.partition(str(ended.target_id))

    async def partition(self, ref: str) -> PartitionView:
        """A partition as it is now."""
        return await self.ask(GetPartition(partition=ref))

    async def host(self, ref: str) -> HostView:
        """A host as it is now."""
        return await self.ask(GetHost(host=ref))

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Await that something becomes true that no event tells."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await condition():
                await self.clock.sleep(0.02)

    def deadlocks(self) -> list[str]:
        """What PostgreSQL told of each deadlock since this was asked last."""
        with (self.postgres.socket_folder.parent / "postgres.log").open(encoding="utf-8", errors="replace") as log:
            log.seek(self._log_read)
            lines = log.readlines()
            self._log_read = log.tell()
        return [
            "".join(lines[number : number + 12]) for number, line in enumerate(lines) if "deadlock detected" in line
        ]

    async def start_services(self, **settings: object) -> None:
        """Start inventory (with changed settings), scheduler and the fake executor."""
        await self.start_inventory(**settings)
        await self.start_scheduler()
        await self.start_executor()

    async def start_inventory(self, **settings: object) -> None:
        """Start inventory, with changed settings."""
        bus = self.bus(INVENTORY)
        self.inventory = InventoryService(bus, self.clock, quick_inventory(self.dsn, **settings), bus.tracing)
        await self.inventory.start()

    async def start_scheduler(self) -> None:
        """Start the scheduler and wait until it answers."""
        self.scheduler = SchedulerService(self.bus(SCHEDULER), self.clock, SchedulerSettings(retry_seconds=0.1))
        await self.scheduler.start()
        await self.scheduler.wait_until_built()

    async def start_executor(self) -> None:
        """Start the fake executor."""
        self.executor = ExecutorService(
            FakeDriver(self.world, self.clock),
            load_manifest("openqrm.executor_fake"),
            self.bus("executor-fake"),
            self.clock,
            QUICK_EXECUTOR,
        )
        await self.executor.start()

    async def stop_services(self) -> None:
        """Stop them."""
        await self.executor.stop()
        await self.scheduler.stop()
        await self.inventory.stop()

    async def kill_nats(self) -> None:
        """End NATS as a power cut would; `nats.start()` begins anew on the same folder."""
        await _kill(self.nats.pid, self.clock)
        await self.nats.stop()

    async def kill_postgres(self) -> None:
        """End PostgreSQL as a power cut would; `postgres.start()` begins anew on the same folder."""
        await _kill(self.postgres.pid, self.clock)
        await self.postgres.stop()


async def _kill(pid: int | None, clock: Clock) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await clock.sleep(0.1)


@asynccontextmanager
async def running_control_plane(**settings: object) -> AsyncIterator[ControlPlane]:
    """Start everything in a folder of its own, inventory with changed settings; end and remove it afterwards."""
    clock = SystemClock()
    folder = Path(tempfile.mkdtemp(prefix="openqrm-test-", dir="/var/tmp"))
    os.chmod(folder, 0o711)  # noqa: PTH101, S103 - the account of PostgreSQL passes through
    state = StateFolder(folder / "state", await service_account(), refuse_below=0, warn_below=0)
    state.open()
    passwords = {user: f"password-of-{user}" for user in [*ROLES, "provisioner"]}
    users = [NatsUser("provisioner", passwords["provisioner"], [">"], [">"], allow_responses=True)]
    for user, role in ROLES.items():
        allowed = rights(role, user, "fake" if role == EXECUTOR else None)
        users.append(
            NatsUser(
                user,
                passwords[user],
                allowed.publish,
                allowed.subscribe,
                allow_responses=True,
                publish_deny=allowed.publish_denied,
            )
        )
    nats = EmbeddedNats(state.nats, users, clock, port=None)
    postgres = EmbeddedPostgres(state.postgres, "secret", clock)
    await asyncio.gather(nats.start(), postgres.start())
    try:
        dsn = await postgres.ensure_database("inventory", "inventory", "inventory-password")
        plane = ControlPlane(nats, postgres, dsn, clock, FakeWorld(clock), passwords)
        provisioner = plane.bus("provisioner")
        await provisioner.connect()
        await provision(provisioner.js, ["fake"])
        await provisioner.stop()
        await plane.start_services(**settings)
        plane.client = plane.bus("client")
        await plane.client.start()
        await plane.client.follow(EVENTS, plane.on_event)
        await plane.run(CreateNetwork(name="default", bridge="br0"))
        try:
            yield plane
        finally:
            await plane.client.stop()
            await plane.stop_services()
    finally:
        await nats.stop()
        await postgres.stop()
        state.close()
        shutil.rmtree(folder)
