"""A stack of its own whose inventory grows from size to size, with the same fake hosts as the small one."""

import json
from time import perf_counter

from harness.bench import Bench, say
from harness.stack import Stack

from large.fill import EMPTY, Size, grow


async def large_stack(bench: Bench) -> Stack:
    """The stack; as large as it was made last."""
    return await bench.stack("large")


async def grow_to(stack: Stack, size: Size) -> None:
    """Load inventory up to this size; the scheduler has to be started anew afterwards."""
    before: Size = stack.kept.get("size", EMPTY)
    if before.partitions >= size.partitions:
        return
    began = perf_counter()
    database = await stack.database()
    try:
        await grow(database, before, size)
    finally:
        await database.close()
    stack.kept["size"] = size
    say(f"inventory loaded up to {size} in {perf_counter() - began:.1f} s")


async def restart_scheduler(stack: Stack) -> float:
    """Start the scheduler anew; returns the seconds in which it built its projection, by its own log."""
    await stack.stop("scheduler")
    seen = len(stack.log("scheduler"))
    stack.start_service("scheduler")

    def built() -> list[float]:
        lines = stack.log("scheduler")[seen:].splitlines()
        return [json.loads(line)["seconds"] for line in lines if '"the projection is built"' in line]

    async def is_built() -> bool:
        return bool(built())

    await stack.until(is_built, 120, "the scheduler has built its projection")
    return built()[0]
