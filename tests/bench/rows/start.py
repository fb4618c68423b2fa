"""One partition.start at a time, through HTTP to running, over the floor of what a durable command can cost."""

import statistics
from collections.abc import AsyncIterator
from functools import partial
from time import perf_counter
from typing import Any

from harness.bench import Bench
from harness.floor import FLOOR, floor_of
from harness.http import HttpConnection
from harness.row import Attempt, Goal, Row
from harness.spans import waterfall
from harness.stack import Stack

ORDER = 1
ROUNDS = 60
WARM_UP = 10
DEVICES = (1, 4, 16)
"""Disks, and as many NICs, of the partitions that are started."""
TRACED = 12
"""Starts whose spans are read when the goal is missed."""


async def alternate(
    port: int, token: str, floor_port: int, partitions: list[str], rounds: int, pids: dict[str, int]
) -> dict[str, Any]:
    """Start one partition, then pass the floor once, and so on; seconds of each."""
    starts: list[float] = []
    floors: list[float] = []
    operations: list[str] = []
    body = b"x" * 1000
    async with HttpConnection(port, token) as http, HttpConnection(floor_port) as floor:
        for number in range(WARM_UP + rounds):
            path = f"/partitions/{partitions[number % len(partitions)]}"
            began = perf_counter()
            operation = await http.command("POST", f"{path}/start")
            starts.append(perf_counter() - began)
            operations.append(operation["id"])
            began = perf_counter()
            status, _ = await floor.send("POST", "/", body)
            floors.append(perf_counter() - began)
            assert status == 200
            await http.command("POST", f"{path}/stop")
    return {"starts": starts[WARM_UP:], "floors": floors[WARM_UP:], "operations": operations[-TRACED:]}


async def spans_of(stack: Stack, operations: list[str]) -> list[list[dict[str, Any]]]:
    """The spans of each operation."""
    await stack.clock.sleep(1.5)  # spans are sent a moment later
    async with stack.http() as http:
        return [(await http.get(f"/traces/{operation}"))["spans"] for operation in operations]


async def measured(bench: Bench, stack: Stack, hosts: list[str], floor_port: int, name: str, devices: int) -> Row:
    """Partitions with so many disks and as many NICs, in turns with the floor."""
    partitions = await stack.partitions(hosts, 4, start=False, devices=devices)
    arguments = {**stack.access(), "floor_port": floor_port, "partitions": partitions}
    result = await bench.load(alternate, **arguments, rounds=ROUNDS)
    starts, floors = result["starts"], result["floors"]

    async def explain() -> str:
        text = waterfall(await spans_of(stack, result["operations"]))
        again = bench.profiled(stack, lambda: bench.load(alternate, **arguments, rounds=4 * ROUNDS))
        return f"{text}\n{await again()}"

    return Row(
        name,
        statistics.median(starts) * 1e3,
        "ms",
        FLOOR,
        statistics.median(floors) * 1e3,
        Goal(3, "<=", "ratio") if devices == DEVICES[0] else None,
        note=f"p95 {_p95(starts):.1f} ms, floor's p95 {_p95(floors):.1f} ms",
        explain=explain,
    )


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """A row for each number of disks and NICs; the goal is for the usual one."""
    stack = await bench.stack()
    hosts = await stack.hosts(1)
    async with floor_of(stack) as floor_port:
        for devices in DEVICES:
            name = f"partition.start to running, one at a time, {devices} x disk and NIC, median"
            yield Attempt(name, partial(measured, bench, stack, hosts, floor_port, name, devices))


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[18] * 1e3
