"""A burst: partitions created and started all at once, each awaited by a request of its own until it runs."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from functools import partial
from time import perf_counter
from typing import Any

from harness.bench import Bench
from harness.floor import FLOOR, floor_of
from harness.http import HttpConnection
from harness.processes import cpu_of, usage_text
from harness.row import Attempt, Goal, Row
from harness.stack import Stack, partition_body

ORDER = 3
HOSTS = 100
SIZES = (10, 100, 1000)
LOOKED_AT = 300
"""So many are enough to see where the time goes."""


async def create_all(port: int, token: str, pids: dict[str, int], names: list[str]) -> dict[str, Any]:
    """One connection and one request for each partition, all at once; the scheduler chooses the hosts."""
    connections = [await HttpConnection(port, token).__aenter__() for _ in names]
    failures: list[str] = []

    async def create(http: HttpConnection, name: str) -> None:
        try:
            await http.command("POST", "/partitions", partition_body(name, None, start=True), wait=120)
        except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
            failures.append(str(error) or type(error).__name__)

    before, began = cpu_of(pids), perf_counter()
    await asyncio.gather(*(create(http, name) for http, name in zip(connections, names, strict=True)))
    ended = perf_counter()
    after = cpu_of(pids)
    for http in connections:
        await http.__aexit__(None, None, None)
    return {
        "seconds": ended - began,
        "postponed": sum(http.postponed for http in connections),
        "unanswered": sum(http.unanswered for http in connections),
        "failures": failures[:3],
        "failed": len(failures),
        "before": before,
        "after": after,
    }


async def pass_floor(port: int, count: int) -> float:
    """The floor so many times at once, a connection for each; seconds until all are answered."""
    connections = [await HttpConnection(port).__aenter__() for _ in range(count)]
    began = perf_counter()
    answers = await asyncio.gather(*(http.send("POST", "/", b"x" * 1000) for http in connections))
    seconds = perf_counter() - began
    for http in connections:
        await http.__aexit__(None, None, None)
    if any(status != 200 for status, _ in answers):
        raise RuntimeError("the floor refused some")
    return seconds


async def running(stack: Stack, names: list[str]) -> int:
    """How many of them run, as the API says."""
    wanted, found, cursor = set(names), 0, ""
    async with stack.http() as http:
        while True:
            page = await http.get(f"/partitions?state=running&limit=500{cursor}")
            found += sum(item["name"] in wanted for item in page["items"])
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"


async def burst(bench: Bench, stack: Stack, size: int) -> dict[str, Any]:
    """One burst of this size; raises RuntimeError unless all of it runs."""
    names = [stack.name("burst") for _ in range(size)]
    result = await bench.load(create_all, **stack.access(), names=names)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {size} did not succeed, such as: {result['failures'][0]}")
    if (count := await running(stack, names)) != size:
        raise RuntimeError(f"{count} of {size} run")
    return result


async def measured(bench: Bench, stack: Stack, floor_port: int, name: str, size: int) -> Row:
    """The floor, a burst, the floor."""
    floors = [await bench.load(pass_floor, port=floor_port, count=size)]
    result = await burst(bench, stack, size)
    floors.append(await bench.load(pass_floor, port=floor_port, count=size))

    async def again() -> dict[str, Any]:
        return await burst(bench, stack, min(size, LOOKED_AT))

    return Row(
        name,
        result["seconds"],
        "s",
        f"{FLOOR}, {size:,} at once",
        statistics.mean(floors),
        Goal(15) if size == max(SIZES) else None,
        note=f"{result['postponed']} were answered with 202 before inventory had taken them\n"
        + usage_text(result["before"], result["after"], size, result["seconds"]),
        flaw=f"{result['unanswered']} questions for an operation's state had an error for an answer"
        if result["unanswered"]
        else "",
        explain=bench.profiled(stack, again),
    )


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """A row for each size; the goal is for the largest."""
    stack = await bench.stack()
    await stack.hosts(HOSTS)
    async with floor_of(stack) as floor_port:
        for size in SIZES:
            name = f"burst of {size:,} partitions created and started, all running"
            yield Attempt(name, partial(measured, bench, stack, floor_port, name, size))
