"""From an executor's publish to WebSocket clients: how late an event is, with many clients at once."""

import asyncio
import os
import statistics
from base64 import b64encode
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, cast

from harness.bench import Bench
from harness.processes import cpu_of, usage_text
from harness.row import Goal, Row

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionObserved
from openqrm.telemetry.tracing import Tracing

ORDER = 5
SIZES = (10, 100, 1000)
EVENTS = 40
INTERVAL_SECONDS = 0.4
FOLLOW_SECONDS = 30.0
SUBJECT = "partition.observed"
_MARK = b"sent at "


class Listener(asyncio.Protocol):
    """A WebSocket client that does nothing but note when each event came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.follows = asyncio.get_running_loop().create_future()
        self.lateness: list[float] = []
        self.lost = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the events."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take frames; the clock is read first."""
        now = perf_counter()
        self._buffer += data
        if not self.follows.done():
            if b'"following"' in self._buffer:
                self.follows.set_result(None)
                self._buffer = b""
            return
        while (frame := self._next()) is not None:
            kind, payload = frame
            if kind == 9:  # a ping, answered so that the connection is kept
                assert self._transport is not None
                self._transport.write(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            _, found, rest = payload.partition(_MARK)
            if found:
                self.lateness.append(now - float(rest[: rest.index(b'"')]))

    def _next(self) -> tuple[int, bytes] | None:
        head, size, begin = self._buffer[:2], 0, 2
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size > 125:
            width = 2 if size == 126 else 8
            size, begin = int.from_bytes(self._buffer[2 : 2 + width]), 2 + width
        if len(self._buffer) < begin + size:
            return None
        payload, self._buffer = self._buffer[begin : begin + size], self._buffer[begin + size :]
        return head[0] & 0x0F, payload

    def connection_lost(self, error: Exception | None) -> None:
        """The gateway closed it."""
        self.lost = str(error or "closed")
        if not self.follows.done():
            self.follows.set_exception(ConnectionError(self._buffer[:300].decode(errors="replace")))

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.abort()


async def listen(
    port: int, token: str, pids: dict[str, int], nats: dict[str, str], clients: int, events: int
) -> dict[str, Any]:
    """Connect the clients, publish as the executor does, and gather how late each event came to each client."""
    loop = asyncio.get_running_loop()
    key = b64encode(os.urandom(16)).decode()
    request = (
        f"GET /api/v1/events/ws?subject={SUBJECT} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    listeners: list[Listener] = []
    for _ in range(clients):
        _, listener = await loop.create_connection(lambda: Listener(request), "127.0.0.1", port)
        listeners.append(listener)
        await asyncio.wait_for(listener.follows, FOLLOW_SECONDS)
    clock = SystemClock()
    bus = Bus(BusSettings(**nats), "executor-fake", clock, Tracing("executor-fake"))
    await bus.connect()
    before, began = cpu_of(pids), perf_counter()
    for _ in range(events):
        await bus.publish(
            PartitionObserved(
                host_id=new_id(), partition_id=new_id(), observed=None, reason=f"sent at {perf_counter()!r}",
                observed_at=clock.now(),
            )
        )  # fmt: skip
        await clock.sleep(INTERVAL_SECONDS)
    await clock.sleep(1.0)
    after, ended = cpu_of(pids), perf_counter()
    await bus.stop()
    lost = [listener.lost for listener in listeners if listener.lost]
    for listener in listeners:
        listener.close()
    late = sorted(seconds for listener in listeners for seconds in listener.lateness)
    return {
        "came": len(late),
        "late": [late[0], statistics.median(late), late[int(len(late) * 0.95)], late[-1]] if late else [],
        "lost": lost[:3],
        "before": before,
        "after": after,
        "seconds": ended - began,
    }


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """A row for each number of clients; the goal is for the most."""
    stack = await bench.stack()
    user = stack.environment("executor-fake")
    nats = {word: user[f"OPENQRM_NATS_{word.upper()}"] for word in ("url", "user", "password")}
    for clients in SIZES:
        arguments = {**stack.access(), "nats": nats, "clients": clients}
        result = await bench.load(listen, **arguments, events=EVENTS)
        if result["came"] != clients * EVENTS:
            raise RuntimeError(f"{result['came']} of {clients * EVENTS} came; clients lost: {result['lost']}")
        least, median, late, most = (seconds * 1e3 for seconds in result["late"])

        async def again(arguments: dict[str, Any] = arguments) -> dict[str, Any]:
            return await bench.load(listen, **arguments, events=EVENTS)

        yield Row(
            f"executor's publish to WebSocket client, p95, {clients:,} clients",
            late,
            "ms",
            goal=Goal(100) if clients == max(SIZES) else None,
            note=f"{1 / INTERVAL_SECONDS:g} events a second, {result['came']:,} deliveries: first {least:.1f} ms, "
            f"median {median:.1f} ms, last {most:.1f} ms\n"
            + usage_text(result["before"], result["after"], result["came"], result["seconds"]).replace(
                "per command", "per delivery"
            ),
            explain=bench.profiled(stack, again),
        )
