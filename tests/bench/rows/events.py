"""From an executor's publish to WebSocket clients: how late an event is, with many clients at once."""

import asyncio
import os
import statistics
from base64 import b64encode
from collections.abc import AsyncIterator
from functools import partial
from time import perf_counter
from typing import Any, cast

import nats
from harness.bench import Bench
from harness.floor import floor_of
from harness.processes import cpu_of, usage_text
from harness.row import Attempt, Goal, Row
from harness.stack import Stack

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionObserved
from openqrm.telemetry.tracing import Tracing

ORDER = 5
SIZES = (10, 100, 1000)
EVENTS = 30
INTERVAL_SECONDS = 0.5
FOLLOW_SECONDS = 30.0
SUBJECT = "partition.observed"
FLOOR_SUBJECT = "floor.event"
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


def request_of(port: int, token: str, path: str) -> bytes:
    """What opens a WebSocket."""
    key = b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


async def followers(port: int, request: bytes, clients: int) -> list[Listener]:
    """So many clients that follow the events."""
    listeners: list[Listener] = []
    for _ in range(clients):
        _, listener = await asyncio.get_running_loop().create_connection(lambda: Listener(request), "127.0.0.1", port)
        listeners.append(listener)
        await asyncio.wait_for(listener.follows, FOLLOW_SECONDS)
    return listeners


def gathered(listeners: list[Listener]) -> dict[str, Any]:
    """How late the events came: how many, least, median, p95, most; what clients were lost."""
    late = sorted(seconds for listener in listeners for seconds in listener.lateness)
    return {
        "came": len(late),
        "late": [late[0], statistics.median(late), late[int(len(late) * 0.95)], late[-1]] if late else [],
        "lost": [listener.lost for listener in listeners if listener.lost][:3],
    }


async def listen(
    port: int, token: str, pids: dict[str, int], floor_port: int, executor: dict[str, str], floor: dict[str, str],
    clients: int, events: int,
) -> dict[str, Any]:  # fmt: skip
    """Connect the clients of both; publish as the executor does and to the floor, in turns, and see when it came."""
    path = f"/api/v1/events/ws?subject={SUBJECT}"
    product = await followers(port, request_of(port, token, path), clients)
    bare = await followers(floor_port, request_of(floor_port, "", "/"), clients)
    clock = SystemClock()
    bus = Bus(BusSettings(**executor), "executor-fake", clock, Tracing("executor-fake"))
    await bus.connect()
    client = await nats.connect(floor["url"], user=floor["user"], password=floor["password"])
    stream = client.jetstream()
    before, began = cpu_of(pids), perf_counter()
    for _ in range(events):
        await bus.publish(event_of(clock))
        await clock.sleep(INTERVAL_SECONDS / 2)
        await stream.publish(FLOOR_SUBJECT, event_of(clock).model_dump_json().encode())
        await clock.sleep(INTERVAL_SECONDS / 2)
    await clock.sleep(1.0)
    after, ended = cpu_of(pids), perf_counter()
    await bus.stop()
    await client.close()
    results = {"product": gathered(product), "floor": gathered(bare)}
    for listener in (*product, *bare):
        listener.close()
    return {**results, "before": before, "after": after, "seconds": ended - began}


def event_of(clock: SystemClock) -> PartitionObserved:
    """An event that says when it was made."""
    reason = f"sent at {perf_counter()!r}"
    return PartitionObserved(
        host_id=new_id(), partition_id=new_id(), observed=None, reason=reason, observed_at=clock.now()
    )


def login_of(stack: Stack, service: str) -> dict[str, str]:
    """How a service reaches NATS."""
    user = stack.environment(service)
    return {word: user[f"OPENQRM_NATS_{word.upper()}"] for word in ("url", "user", "password")}


async def measured(bench: Bench, stack: Stack, floor_port: int, name: str, clients: int) -> Row:
    """So many clients of the gateway, and as many of the floor."""
    arguments = {
        **stack.access(), "floor_port": floor_port, "executor": login_of(stack, "executor-fake"),
        "floor": login_of(stack, "provisioner"), "clients": clients, "events": EVENTS,
    }  # fmt: skip
    result = await bench.load(listen, **arguments)
    for who in ("product", "floor"):
        if result[who]["came"] != clients * EVENTS:
            lost = result[who]["lost"]
            raise RuntimeError(f"{who}: {result[who]['came']} of {clients * EVENTS} came; clients lost: {lost}")
    least, median, late, most = (seconds * 1e3 for seconds in result["product"]["late"])
    usage = usage_text(result["before"], result["after"], clients * EVENTS, result["seconds"])

    async def again() -> dict[str, Any]:
        return await bench.load(listen, **arguments)

    return Row(
        name,
        late,
        "ms",
        "floor: nats-py to bare WebSockets, p95",
        result["floor"]["late"][2] * 1e3,
        Goal(100) if clients == max(SIZES) else None,
        note=f"{1 / INTERVAL_SECONDS:g} events a second, {clients * EVENTS:,} deliveries: first {least:.1f} ms, "
        f"median {median:.1f} ms, last {most:.1f} ms\n" + usage.replace("per command", "per delivery"),
        explain=bench.profiled(stack, again),
    )


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """A row for each number of clients; the goal is for the most."""
    stack = await bench.stack()
    async with floor_of(stack) as floor_port:
        for clients in SIZES:
            name = f"executor's publish to WebSocket client, p95, {clients:,} clients"
            yield Attempt(name, partial(measured, bench, stack, floor_port, name, clients))
