"""Consoles: bytes between a WebSocket and the executor that holds the guest's console, by frames on the bus."""

import asyncio
from contextlib import suppress
from uuid import UUID, uuid4

import structlog
from nats.errors import Error as NatsError
from starlette.websockets import WebSocket, WebSocketDisconnect

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.console import ConsoleKind, ConsoleReceived, ConsoleSent, OpenConsole
from openqrm.contracts.errors import ConflictError, WrongStateError
from openqrm.contracts.partition import GetPartition, PartitionView
from openqrm.contracts.states import PartitionState
from openqrm.gateway.adapters.tickets import Ticket
from openqrm.gateway.ask import Questions
from openqrm.gateway.events.websocket import short

BINARY = "binary"
"""The WebSocket subprotocol that VNC clients in browsers ask for."""

KEEPALIVE_SECONDS = 20.0
MAX_FRAME_BYTES = 128 * 1024
"""Below NATS's largest message, after base64."""
_WAITING_FRAMES = 256
OPEN_SECONDS = 15.0

NORMAL, GUEST_CLOSED, LOST = 1000, 4000, 4001
_WITH_CONSOLE = frozenset(
    {PartitionState.RUNNING, PartitionState.PAUSED, PartitionState.REBOOTING, PartitionState.STOPPING,
     PartitionState.STARTING, PartitionState.PAUSING, PartitionState.UNPAUSING, PartitionState.MIGRATING}
)  # fmt: skip


def place_of(partition: PartitionView, what: str) -> tuple[UUID, str]:
    """The host and the technology that have a partition's screen, if it has one now."""
    if partition.host_id is None or partition.state not in _WITH_CONSOLE:
        raise WrongStateError(
            f"Partition {partition.name!r} is {partition.state.value} and has no {what} now. Start it first.",
            details={"state": partition.state.value, "allowed": sorted(state.value for state in _WITH_CONSOLE)},
        )
    return partition.host_id, partition.technology


class Consoles:
    """Opens consoles and carries their bytes."""

    def __init__(self, bus: Bus, questions: Questions, clock: Clock) -> None:
        self._bus = bus
        self._questions = questions
        self._clock = clock
        self._open: set[ConsoleConnection] = set()

    async def check(self, partition: PartitionView, kind: ConsoleKind) -> None:
        """Refuse a ticket that could not be used."""
        place_of(partition, "console")
        if kind is ConsoleKind.VNC and not partition.vnc:
            raise ConflictError(f"Partition {partition.name!r} was made without a VNC screen. Use its serial console.")

    async def serve(self, socket: WebSocket, ticket: Ticket) -> None:
        """Open the console of a ticket, then carry bytes until one side ends."""
        partition = await self._questions.ask(GetPartition(partition=str(ticket.partition_id)))
        host_id, technology = place_of(partition, "console")
        connection = ConsoleConnection(self._bus, socket, self._clock)
        await connection.listen()
        try:
            await self._questions.ask(
                OpenConsole(
                    host_id=host_id,
                    technology=technology,
                    partition_id=partition.id,
                    session_id=connection.session_id,
                    kind=ticket.kind,
                ),
                OPEN_SECONDS,
            )
            offered = socket.scope.get("subprotocols", ())
            await socket.accept(BINARY if BINARY in offered else None)
            self._open.add(connection)
            await connection.run()
        finally:
            self._open.discard(connection)
            await connection.close()

    def close(self) -> None:
        """End all of them."""
        for connection in self._open:
            connection.end(1001, "The gateway is shutting down; open the console again in a moment.")


class ConsoleConnection:
    """One open console."""

    def __init__(self, bus: Bus, socket: WebSocket, clock: Clock) -> None:
        self.session_id = uuid4()
        self._bus = bus
        self._socket = socket
        self._clock = clock
        self._from_guest: asyncio.Queue[ConsoleSent] = asyncio.Queue(_WAITING_FRAMES)
        self._sent = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._why = (NORMAL, "")
        self._log = structlog.get_logger(service="gateway", console=str(self.session_id))

    async def listen(self) -> None:
        """Hear what the guest says, before it is asked to speak."""
        self._subscription = await self._bus.listen(ConsoleSent, self._from_guest.put, session=self.session_id)

    def end(self, code: int, reason: str) -> None:
        """End the connection; the first reason counts."""
        if not self._ended.done():
            self._why = (code, reason)
            self._ended.set_result(None)

    async def run(self) -> None:
        """Carry bytes both ways until one side ends."""
        tasks: list[asyncio.Future[None]] = [
            asyncio.create_task(work(), name=f"console {name}")
            for name, work in (("out", self._to_client), ("in", self._to_guest), ("alive", self._keep_alive))
        ]
        try:
            await asyncio.wait({self._ended, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    self._log.warning("a console broke", error=str(result) or type(result).__name__)
                    self.end(LOST, "The console's connection broke. Open it again.")
        code, reason = self._why
        with suppress(RuntimeError, OSError, WebSocketDisconnect):
            await self._socket.close(code, short(reason))

    async def close(self) -> None:
        """Tell the executor that nobody is there any more."""
        with suppress(NatsError):
            await self._subscription.unsubscribe()
            await self._bus.publish(
                ConsoleReceived(session_id=self.session_id, number=self._sent, closed="the client left")
            )

    async def _to_client(self) -> None:
        expected = 0
        while True:
            frame = await self._from_guest.get()
            if frame.number != expected:
                # A screen's protocol cannot go on after a hole, and on a serial line it would go unseen.
                self.end(LOST, "The bus lost bytes of this console. Open it again.")
                return
            expected += 1
            if frame.data:
                await self._socket.send_bytes(frame.data)
            if frame.closed is not None:
                self.end(GUEST_CLOSED, frame.closed or "The guest closed the console.")
                return

    async def _to_guest(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self.end(NORMAL, "")
                return
            data: bytes = message.get("bytes") or (message.get("text") or "").encode()
            for start in range(0, len(data), MAX_FRAME_BYTES):
                await self._frame(data[start : start + MAX_FRAME_BYTES])

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(KEEPALIVE_SECONDS)
            await self._frame(b"")

    async def _frame(self, data: bytes) -> None:
        number, self._sent = self._sent, self._sent + 1
        await self._bus.publish(ConsoleReceived(session_id=self.session_id, number=number, data=data))
