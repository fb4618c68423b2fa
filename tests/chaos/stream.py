"""The public event stream, read from its beginning to its end with a client's rights."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from support.stack import Stack

from openqrm.bus.bus import Bus
from openqrm.bus.follow import Followed
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import EVENTS
from openqrm.contracts.host import HostEvent
from openqrm.contracts.message import message_for
from openqrm.contracts.operation import OperationEvent
from openqrm.contracts.partition import PartitionEvent
from openqrm.telemetry.tracing import Tracing

READ_SECONDS = 60.0


@dataclass(frozen=True)
class Happening:
    """One event."""

    sequence: int
    subject: str
    event: Any

    @property
    def view(self) -> Any:
        """The thing that it is about, with its revision; None where the stream's events have none."""
        match self.event:
            case PartitionEvent():
                return self.event.partition
            case HostEvent():
                return self.event.host
            case OperationEvent():
                return self.event.operation
        return None

    @property
    def about(self) -> set[UUID]:
        """The ids that it names: of the thing, its target, its operation."""
        view = self.view
        ids = {getattr(view, "id", None), getattr(view, "target_id", None), getattr(self.event, "operation_id", None)}
        return {found for found in ids if found is not None}

    def __str__(self) -> str:
        view = self.view
        if isinstance(self.event, OperationEvent):
            what = f"{view.verb} {view.id} {view.state}: {view.error.message if view.error else view.step}"
        elif view is not None:
            what = f"{view.name} {view.state} (operation {self.event.operation_id}) {self.event.reason}"
        else:
            what = ""
        return f"#{self.sequence} {self.subject} revision {getattr(view, 'revision', '-')}  {what}"


async def read_events(stack: Stack) -> list[Happening]:
    """Every event so far."""
    environment = stack.environment("client")
    settings = BusSettings(
        url=environment["OPENQRM_NATS_URL"], user="client", password=environment["OPENQRM_NATS_PASSWORD"]
    )
    bus = Bus(settings, "client", stack.clock, Tracing("client"))
    found: list[Happening] = []
    complete = asyncio.Event()
    await bus.connect()
    try:
        last = (await bus.js.stream_info(EVENTS)).state.last_seq

        async def take(followed: Followed) -> None:
            model = message_for(followed.subject)
            assert model is not None, followed.subject
            found.append(Happening(followed.sequence, followed.subject, model.model_validate_json(followed.body)))
            if followed.sequence >= last:
                complete.set()

        if last:
            await bus.follow(EVENTS, take, 1)
            async with asyncio.timeout(READ_SECONDS):
                await complete.wait()
    finally:
        await bus.stop()
    return found
