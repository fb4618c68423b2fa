"""A stand-in for inventory, as an executor sees it: a list of hosts, placements, routed commands and their outcomes."""

import asyncio
from typing import Any, TypeVar
from uuid import UUID

from nats.aio.subscription import Subscription

from openqrm.bus.bus import Bus
from openqrm.bus.streams import EVENTS
from openqrm.contracts.clock import Clock, SystemClock
from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.execution import (
    ExecuteMigratePartition,
    ExecutionFailed,
    ExecutionOutcome,
    ExecutionSucceeded,
    PartitionExecution,
)
from openqrm.contracts.host import (
    GetHost,
    HostChanged,
    HostConnection,
    HostEvent,
    HostView,
    ListHosts,
)
from openqrm.contracts.ids import new_id
from openqrm.contracts.message import Message, RoutedCommand, message_for
from openqrm.contracts.paging import Page
from openqrm.contracts.partition import GetPlacement, Placement
from openqrm.contracts.states import HostState
from openqrm.testkit.nats import NatsServer

WAIT_SECONDS = 10.0

M = TypeVar("M", bound=Message)


def host_view(technology: str, connection: HostConnection, clock: Clock, **changes: Any) -> HostView:
    """A host that is ready."""
    host_id = changes.get("id") or new_id()
    now = clock.now()
    fields: dict[str, Any] = {
        "id": host_id,
        "revision": 1,
        "name": f"h-{host_id.hex[-6:]}",
        "technology": technology,
        "state": HostState.READY,
        "state_reason": "",
        "connection": connection,
        "tags": (),
        "cpu_overcommit": 4.0,
        "memory_overcommit": 1.0,
        "memory_reserve_mib": 512,
        "facts": None,
        "cpus_reserved": 0,
        "memory_reserved_mib": 0,
        "partitions": 0,
        "operation_id": None,
        "last_seen_at": None,
        "created_at": now,
        "updated_at": now,
    }
    return HostView(**fields | changes)


class InventoryStub:
    """Answers what executors ask, sends what inventory sends, keeps what executors tell."""

    def __init__(self, server: NatsServer, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.bus: Bus = server.bus("inventory", self.clock)
        self.hosts: dict[UUID, HostView] = {}
        self.placements: dict[UUID, Placement] = {}
        self.events: list[Message] = []
        """Everything that came by the EVENTS stream since the start, in order."""
        self.asked: list[Message] = []
        """Every query that was answered."""
        self.page_size = 500
        self._news = asyncio.Condition()
        self._subscriptions: list[Subscription] = []
        self.bus.answer(ListHosts, self._list_hosts)
        self.bus.answer(GetHost, self._get_host)
        self.bus.answer(GetPlacement, self._get_placement)

    async def start(self) -> None:
        """Begin to answer and to listen."""
        await self.bus.start()
        await self.bus.follow(EVENTS, self._on_event, from_sequence=1)

    async def stop(self) -> None:
        """End it."""
        await self.bus.stop()

    # -------------------------------------------------------------------------------------------- what it says

    async def announce(self, model: type[HostEvent], view: HostView) -> None:
        """Publish an event about a host; the list has it in the same state from then on."""
        self.hosts[view.id] = view
        await self.bus.publish(model(host=view), about=view.id)

    async def change(self, host_id: UUID, **changes: Any) -> HostView:
        """Change a host, raising its revision, and say so."""
        view = self.hosts[host_id]
        view = view.model_copy(update={"revision": view.revision + 1, **changes})
        await self.announce(HostChanged, view)
        return view

    async def send(self, command: RoutedCommand) -> UUID:
        """Send a routed command; returns its operation's id. What it says is the placement unless `place` said so."""
        if isinstance(command, PartitionExecution) and command.partition.id not in self.placements:
            target = command.target_host_id if isinstance(command, ExecuteMigratePartition) else None
            self.place(command.partition.id, command.partition.epoch, command.host_id, target)
        await self.bus.publish(command, about=command.operation_id)
        return command.operation_id

    def place(self, partition_id: UUID, epoch: int, host_id: UUID | None, target: UUID | None = None) -> None:
        """What placement.get_placement answers from now on."""
        self.placements[partition_id] = Placement(
            partition_id=partition_id, epoch=epoch, host_id=host_id, target_host_id=target
        )

    # -------------------------------------------------------------------------------------------- what it heard

    def heard(self, model: type[M]) -> list[M]:
        """Every event of a kind since the start, in order."""
        return [event for event in self.events if isinstance(event, model)]

    def outcomes(self, operation_id: UUID) -> list[ExecutionOutcome]:
        """Every outcome of an operation, in order."""
        return [event for event in self.heard(ExecutionOutcome) if event.operation_id == operation_id]

    async def outcome(self, operation_id: UUID, seconds: float = WAIT_SECONDS) -> ExecutionOutcome:
        """Wait for the first outcome of an operation."""
        await self.until(lambda: bool(self.outcomes(operation_id)), seconds, f"the outcome of {operation_id}")
        return self.outcomes(operation_id)[0]

    async def success(self, command: RoutedCommand, seconds: float = WAIT_SECONDS) -> ExecutionSucceeded:
        """Send a command and wait until it has succeeded."""
        outcome = await self.outcome(await self.send(command), seconds)
        if not isinstance(outcome, ExecutionSucceeded):
            raise AssertionError(f"it failed: {outcome}")
        return outcome

    async def failure(self, command: RoutedCommand, seconds: float = WAIT_SECONDS) -> ExecutionFailed:
        """Send a command and wait until it has failed."""
        outcome = await self.outcome(await self.send(command), seconds)
        if not isinstance(outcome, ExecutionFailed):
            raise AssertionError(f"it succeeded: {outcome}")
        return outcome

    async def until(self, condition: Any, seconds: float = WAIT_SECONDS, what: str = "") -> None:
        """Wait until a condition on what was heard holds."""
        async with self._news:
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait_for(condition)
            except TimeoutError:
                kinds = [type(event).__name__ for event in self.events]
                raise AssertionError(f"not within {seconds:g} s: {what or condition}; heard: {kinds}") from None

    # -------------------------------------------------------------------------------------------- answers

    async def _list_hosts(self, query: ListHosts) -> Page[HostView]:
        self.asked.append(query)
        known = sorted(
            (
                view
                for view in self.hosts.values()
                if view.technology == (query.technology or view.technology) and view.state is not HostState.REMOVED
            ),
            key=lambda view: (view.name, view.id),
        )
        first = int(query.paging.cursor or 0)
        size = min(query.paging.limit, self.page_size)
        cursor = str(first + size) if first + size < len(known) else None
        return Page[HostView](items=tuple(known[first : first + size]), next_cursor=cursor)

    async def _get_host(self, query: GetHost) -> HostView:
        self.asked.append(query)
        for view in self.hosts.values():
            if str(view.id) == query.host:
                return view
        raise NotFoundError(f"There is no host {query.host}.")

    async def _get_placement(self, query: GetPlacement) -> Placement:
        self.asked.append(query)
        if query.partition_id not in self.placements:
            raise NotFoundError(f"There is no partition {query.partition_id}.")
        return self.placements[query.partition_id]

    async def _on_event(self, followed: Any) -> None:
        model = message_for(followed.subject)
        if model is None:
            return
        async with self._news:
            self.events.append(model.model_validate_json(followed.body))
            self._news.notify_all()
