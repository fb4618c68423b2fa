"""Whether memory and open files of each process stay as they are under load."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from typing import Any

from harness.bench import Bench
from harness.processes import handles, tree_pss_kib
from harness.row import Goal, Row
from harness.stack import SERVICES, Stack

from rows.commands import drive, flaw_of, stopped_partitions

ORDER = 9
IN_FLIGHT = 10
EVERY_SECONDS = 3.0
WARM_UP_SHARE = 0.4
"""Of the time: caches fill, such as the newest events that the gateway keeps."""
MOST_GROWTH = 5.0
"""Per cent of a process's memory over the window."""
MORE_HANDLES = 8
"""What comes and goes, such as connections of a pool."""

Sample = tuple[float, dict[str, int], dict[str, int]]
"""When; KiB of PSS and open files by name."""


def sample(stack: Stack) -> Sample:
    """One look at all processes."""
    pids = stack.pids
    return (
        stack.clock.monotonic(),
        {name: tree_pss_kib(pid) for name, pid in pids.items()},
        {name: handles(pid) for name, pid in pids.items()},
    )


async def watch(stack: Stack, work: "asyncio.Future[Any]") -> list[Sample]:
    """Look again and again until the work is done."""
    samples = [sample(stack)]
    while not work.done():
        await asyncio.wait((work,), timeout=EVERY_SECONDS)
        samples.append(sample(stack))
    return samples[:-1]


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """A row for each process."""
    stack = await bench.stack()
    partitions = await stopped_partitions(stack, IN_FLIGHT)
    arguments = {**stack.access(), "partitions": partitions, "in_flight": IN_FLIGHT}
    warm_up = bench.flat_seconds * WARM_UP_SHARE
    warm = await bench.load(drive, **arguments, seconds=warm_up, warm_up=0.0)
    work = asyncio.ensure_future(bench.load(drive, **arguments, seconds=bench.flat_seconds - warm_up, warm_up=0.0))
    samples = await watch(stack, work)
    result = await work
    commands = result["commands"]
    times = [at for at, _, _ in samples]
    for name in samples[0][1]:
        memory = [float(by_name[name]) for _, by_name, _ in samples]
        opened = [by_name[name] for _, _, by_name in samples]
        slope, begun = statistics.linear_regression(times, memory)
        grown = slope * (times[-1] - times[0])
        level = begun + slope * times[0]
        more = max(opened[-5:]) - max(opened[:5])
        yield Row(
            f"growth of memory over {commands:,} commands: {name}",
            grown / level * 100,
            "%",
            goal=Goal(MOST_GROWTH) if name in SERVICES else None,
            flaw=f"{more} more open files at the end" if name in SERVICES and more > MORE_HANDLES else flaw_of(result),
            note=f"{grown / commands * 1000:+.0f} KiB per 1,000 commands, {memory[0] / 1024:.0f} MiB at the beginning, "
            f"{memory[-1] / 1024:.0f} MiB at the end; open files {opened[0]} and {opened[-1]}; after a warm-up of "
            f"{warm['commands']:,} commands, over {times[-1] - times[0]:.0f} s",
        )
