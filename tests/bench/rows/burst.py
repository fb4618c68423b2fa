"""A burst: partitions created and started all at once, each awaited by a request of its own until it runs."""

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from harness.bench import Bench
from harness.http import HttpConnection
from harness.processes import cpu_of, usage_text
from harness.row import Goal, Row
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
    return {
        "seconds": ended - began,
        "postponed": sum(http.postponed for http in connections),
        "unanswered": sum(http.unanswered for http in connections),
        "failures": failures[:3],
        "failed": len(failures),
        "before": before,
        "after": after,
    }


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


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """A row for each size; the goal is for the largest."""
    stack = await bench.stack()
    await stack.hosts(HOSTS)
    for size in SIZES:
        result = await burst(bench, stack, size)

        async def again(size: int = min(size, LOOKED_AT)) -> dict[str, Any]:
            return await burst(bench, stack, size)

        yield Row(
            f"burst of {size:,} partitions created and started, all running",
            result["seconds"],
            "s",
            goal=Goal(15) if size == max(SIZES) else None,
            note=f"{result['postponed']} were answered with 202 before inventory had taken them\n"
            + usage_text(result["before"], result["after"], size, result["seconds"]),
            flaw=f"{result['unanswered']} questions for an operation's state had an error for an answer"
            if result["unanswered"]
            else "",
            explain=bench.profiled(stack, again),
        )
