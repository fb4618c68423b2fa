"""A small stand-in for inventory on a real bus: answers questions, turns commands into operations and events."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openqrm.bus.bus import Bus
from openqrm.bus.delivery import Delivery
from openqrm.bus.streams import service_durable
from openqrm.contracts.console import (
    ConsoleReceived,
    ConsoleSent,
    ConsoleSession,
    OpenConsole,
    Screenshot,
    TakeScreenshot,
)
from openqrm.contracts.dead_letter import DeadLetter, ListDeadLetters
from openqrm.contracts.errors import NotFoundError, Problem
from openqrm.contracts.host import GetHost, HostConnection, HostView, ListHosts
from openqrm.contracts.ids import is_id, new_id
from openqrm.contracts.image import (
    DeleteImage,
    GetImage,
    ImageDeleted,
    ImageView,
    ListImages,
    RegisterImage,
)
from openqrm.contracts.mac import AllocateMac, ListMacs, MacAllocation, MacRelease, MacView, ReleaseMac
from openqrm.contracts.message import INVENTORY, Command, Kind, messages_of, subject_pattern
from openqrm.contracts.network import GetNetwork, ListNetworks, NetworkView
from openqrm.contracts.operation import (
    GetOperation,
    ListOperations,
    OperationAccepted,
    OperationFailed,
    OperationProgressed,
    OperationRejected,
    OperationSucceeded,
    OperationView,
    TargetKind,
)
from openqrm.contracts.paging import Page
from openqrm.contracts.partition import (
    CreatePartition,
    GetPartition,
    ListPartitions,
    ListStrangers,
    PartitionStarted,
    PartitionView,
    StrangerView,
)
from openqrm.contracts.resource import GetResource, ListResources, ResourceView
from openqrm.contracts.states import FINAL_OPERATION_STATES, HostState, OperationState
from openqrm.contracts.technology import ListTechnologies, TechnologyList, TechnologyView
from openqrm.telemetry.tracing import current_trace_id

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST_ID = UUID("01980000-0000-7000-8000-000000000001")


def partition_view(**changes: Any) -> PartitionView:
    """A partition."""
    values: dict[str, Any] = {
        "id": new_id(), "revision": 7, "name": "web 1", "technology": "fake", "state": "running",
        "desired_state": "running", "epoch": 1, "host_id": HOST_ID, "host_name": "h1", "target_host_id": None,
        "memory_mib": 512, "memory_max_mib": 512, "vcpus": 1, "vcpus_max": 1, "cpu_pins": {}, "disks": (), "nics": (),
        "firmware": "bios", "vnc": True, "tags": (), "host_tags": (), "on_crash": "restart", "operation_id": None,
        "drift": (), "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return PartitionView.model_validate(values | changes)


HOST = HostView(
    id=HOST_ID, revision=3, name="h1", technology="fake", state=HostState.READY, state_reason="",
    connection=HostConnection(uri="fake://h1"), tags=(), cpu_overcommit=4, memory_overcommit=1, memory_reserve_mib=0,
    facts=None, cpus_reserved=0, memory_reserved_mib=0, partitions=0, operation_id=None, last_seen_at=NOW,
    created_at=NOW, updated_at=NOW,
)  # fmt: skip
NETWORK = NetworkView(
    id=new_id(), revision=1, name="default", description="", bridge="br0", host_bridges={}, vlan=None, created_at=NOW
)
TECHNOLOGY = TechnologyView(
    name="fake", title="Fake", available=True, manifest=None, mac_range=None, macs_used=1, macs_free=9
)
Reaction = Callable[[Command], Awaitable[None]]


class SimulatedInventory:
    """Accepts every command and lets it succeed, unless a test says otherwise in `reactions`."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.partitions: dict[UUID, PartitionView] = {}
        self.operations: dict[UUID, OperationView] = {}
        self.images: dict[UUID, ImageView] = {}
        self.commands: list[Command] = []
        self.queries: list[Any] = []
        self.reactions: dict[str, Reaction] = {}
        self.guest_input: list[bytes] = []
        self.consoles: dict[UUID, int] = {}
        self.console_ended: list[str] = []
        self.letters: tuple[DeadLetter, ...] = ()

    def reset(self) -> None:
        """As at the start, with one partition."""
        for kept in (self.partitions, self.operations, self.images, self.reactions, self.consoles):
            kept.clear()
        for seen in (self.commands, self.queries, self.guest_input, self.console_ended):
            seen.clear()
        self.web = partition_view()
        self.partitions[self.web.id] = self.web

    async def start(self) -> None:
        """Answer and consume."""
        durable = service_durable(INVENTORY, Kind.COMMAND)
        handlers = {model: self._command for model in messages_of(Kind.COMMAND) if subject_pattern(model)}
        self.bus.consume(durable, handlers, key=lambda _: None)
        for query, answer in {
            GetPartition: self._partition,
            ListPartitions: self._partitions,
            ListStrangers: _answer(Page[StrangerView](items=())),
            GetHost: self._host,
            ListHosts: _answer(Page[HostView](items=(HOST,))),
            GetNetwork: _answer(NETWORK),
            ListNetworks: _answer(Page[NetworkView](items=(NETWORK,))),
            GetImage: self._image,
            ListImages: self._images,
            GetOperation: self._operation,
            ListOperations: self._operations,
            GetResource: self._resource,
            ListResources: _answer(Page[ResourceView](items=())),
            ListTechnologies: _answer(TechnologyList(items=(TECHNOLOGY,))),
            ListMacs: _answer(Page[MacView](items=())),
            AllocateMac: self._allocate,
            ReleaseMac: self._release,
            ListDeadLetters: self._letters,
            OpenConsole: self._open_console,
            TakeScreenshot: _answer(Screenshot(media_type="image/png", picture=b"\x89PNG fake")),
        }.items():
            self.bus.answer(query, answer)  # type: ignore[arg-type]
        await self.bus.start()
        await self.bus.listen(ConsoleReceived, self._from_client)

    # -------------------------------------------------------------------------------------------- commands

    async def _command(self, command: Command, _delivery: Delivery) -> None:
        if command.operation_id in self.operations:
            return
        self.commands.append(command)
        reaction = self.reactions.get(command.subject)
        if reaction:
            await reaction(command)
            return
        await self.accept(command)
        if isinstance(command, CreatePartition):
            self.partitions[command.partition_id] = partition_view(id=command.partition_id, name=command.name)
        if isinstance(command, RegisterImage):
            self._register(command)
        if isinstance(command, DeleteImage) and is_id(command.image):
            image = self.images.pop(UUID(command.image))
            await self.bus.publish(ImageDeleted(image=image), about=image.id)
        await self.succeed(command)

    def _register(self, command: RegisterImage) -> None:
        values = command.model_dump(exclude={"operation_id", "requested_by", "image_id"})
        image = ImageView(id=command.image_id or new_id(), revision=1, created_at=NOW, **values)
        self.images[image.id] = image

    def _view(self, command: Command, state: OperationState, **changes: Any) -> OperationView:
        old = self.operations.get(command.operation_id)
        noun = command.subject.split(".")[0]
        values: dict[str, Any] = {
            "id": command.operation_id, "revision": old.revision + 1 if old else 1, "verb": command.subject,
            "target_kind": TargetKind(noun), "target_id": None, "target_name": "x", "state": state,
            "progress": 100 if state is OperationState.SUCCEEDED else 0, "step": "", "cancellable": False,
            "cancel_requested": False, "error": None, "result": {}, "requested_by": command.requested_by,
            "trace_id": old.trace_id if old else current_trace_id(), "created_at": NOW,
            "ended_at": NOW if state in FINAL_OPERATION_STATES else None,
        }  # fmt: skip
        view = OperationView.model_validate(values | changes)
        self.operations[view.id] = view
        return view

    async def accept(self, command: Command) -> None:
        """Emit operation.accepted."""
        view = self._view(command, OperationState.RUNNING)
        await self.bus.publish(OperationAccepted(operation=view), about=view.id)

    async def progress(self, command: Command, percent: int) -> None:
        """Emit operation.progressed."""
        view = self._view(command, OperationState.RUNNING, progress=percent, step=f"at {percent}")
        await self.bus.publish(OperationProgressed(operation=view), about=view.id)

    async def succeed(self, command: Command) -> None:
        """Emit operation.succeeded."""
        view = self._view(command, OperationState.SUCCEEDED)
        await self.bus.publish(OperationSucceeded(operation=view), about=view.id)

    async def fail(self, command: Command, problem: Problem) -> None:
        """Emit operation.failed."""
        view = self._view(command, OperationState.FAILED, error=problem)
        await self.bus.publish(OperationFailed(operation=view), about=view.id)

    async def reject(self, command: Command, problem: Problem) -> None:
        """Emit operation.rejected."""
        view = self._view(command, OperationState.REJECTED, error=problem)
        await self.bus.publish(OperationRejected(operation=view), about=view.id)

    async def emit_started(self, partition: PartitionView | None = None) -> int:
        """Emit partition.started and return its sequence."""
        partition = partition or self.web
        sequence = await self.bus.publish(PartitionStarted(partition=partition), about=partition.id)
        assert sequence is not None
        return sequence

    # -------------------------------------------------------------------------------------------- questions

    async def _partition(self, query: GetPartition) -> PartitionView:
        for partition in self.partitions.values():
            if query.partition in (str(partition.id), partition.name):
                return partition
        raise NotFoundError(f"There is no partition {query.partition!r}. See the list of partitions.")

    async def _partitions(self, query: ListPartitions) -> Page[PartitionView]:
        self.queries.append(query)
        return Page[PartitionView](items=tuple(self.partitions.values()), next_cursor="more")

    async def _host(self, query: GetHost) -> HostView:
        if query.host not in (str(HOST.id), HOST.name):
            raise NotFoundError(f"There is no host {query.host!r}.")
        return HOST

    async def _resource(self, query: GetResource) -> ResourceView:
        raise NotFoundError(f"There is no resource {query.resource!r}.")

    async def _image(self, query: GetImage) -> ImageView:
        for image in self.images.values():
            if query.image in (str(image.id), image.name):
                return image
        raise NotFoundError(f"There is no image {query.image!r}.")

    async def _images(self, query: ListImages) -> Page[ImageView]:
        return Page[ImageView](items=tuple(self.images.values()))

    async def _operation(self, query: GetOperation) -> OperationView:
        if query.operation_id not in self.operations:
            raise NotFoundError(f"There is no operation {query.operation_id}.")
        return self.operations[query.operation_id]

    async def _operations(self, query: ListOperations) -> Page[OperationView]:
        self.queries.append(query)
        return Page[OperationView](items=tuple(self.operations.values()))

    async def _letters(self, query: ListDeadLetters) -> Page[DeadLetter]:
        return Page[DeadLetter](items=self.letters)

    async def _allocate(self, query: AllocateMac) -> MacAllocation:
        self.queries.append(query)
        return MacAllocation(mac=query.mac or "52:54:00:00:00:01", technology=query.technology)

    async def _release(self, query: ReleaseMac) -> MacRelease:
        return MacRelease(mac=query.mac, free_after=NOW)

    # -------------------------------------------------------------------------------------------- consoles

    async def _open_console(self, query: OpenConsole) -> ConsoleSession:
        self.consoles[query.session_id] = 0
        asyncio.get_running_loop().create_task(self.say(query.session_id, b"login: "))
        return ConsoleSession(session_id=query.session_id, kind=query.kind)

    async def say(self, session_id: UUID, data: bytes, closed: str | None = None, skip: int = 0) -> None:
        """Send bytes from the guest."""
        number = self.consoles[session_id] + skip
        self.consoles[session_id] = number + 1
        await self.bus.publish(ConsoleSent(session_id=session_id, number=number, data=data, closed=closed))

    async def _from_client(self, frame: ConsoleReceived) -> None:
        if frame.closed is not None:
            self.console_ended.append(frame.closed)
        elif frame.data:
            self.guest_input.append(frame.data)
            if frame.data == b"exit\n":
                await self.say(frame.session_id, b"bye", closed="The guest logged out.")
            else:
                await self.say(frame.session_id, b"<" + frame.data + b">")


def _answer(value: Any) -> Callable[[Any], Awaitable[Any]]:
    async def answer(_query: Any) -> Any:
        return value

    return answer
