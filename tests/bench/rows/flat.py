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
EVERY_SECONDS = 2.0
WARM_UP_SHARE = 0.4
"""Of the time: caches fill, such as the newest events that the gateway keeps."""
MOST_GROWTH = 0.05
"""Of a process's memory, over the whole window."""
SHARES = (0.25, 0.5, 1)
"""Of the window: what leaks grows with the time."""
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
    """Three rows for each process."""
    stack = await bench.stack()
    partitions = await stopped_partitions(stack, IN_FLIGHT)
    arguments = {**stack.access(), "partitions": partitions, "in_flight": IN_FLIGHT}
    warm_up = bench.flat_seconds * WARM_UP_SHARE
    warm = await bench.load(drive, **arguments, seconds=warm_up, warm_up=0.0)
    work = asyncio.ensure_future(bench.load(drive, **arguments, seconds=bench.flat_seconds - warm_up, warm_up=0.0))
    samples = await watch(stack, work)
    result = await work
    warmed = f"after a warm-up of {warm['commands']:,} commands"
    for name in samples[0][1]:
        for share in SHARES:
            yield growth(name, samples[: max(3, round(len(samples) * share))], share, result, warmed)


def growth(name: str, samples: list[Sample], share: float, result: dict[str, Any], warmed: str) -> Row:
    """The row of one process over the first part of the window; the goal is for all of it."""
    commands = round(result["commands"] * share)
    times = [at for at, _, _ in samples]
    memory = [float(by_name[name]) for _, by_name, _ in samples]
    opened = [by_name[name] for _, _, by_name in samples]
    slope, begun = statistics.linear_regression(times, memory)
    grown = slope * (times[-1] - times[0])
    more = max(opened[-5:]) - max(opened[:5])
    counts = share == 1 and name in SERVICES
    return Row(
        f"growth of memory over {commands:,} commands: {name}",
        grown / 1024,
        "MiB",
        "at the beginning",
        (begun + slope * times[0]) / 1024,
        Goal(MOST_GROWTH, "<=", "ratio") if counts else None,
        flaw=f"{more} more open files at the end" if counts and more > MORE_HANDLES else flaw_of(result),
        note=f"{grown / commands * 1000:+.0f} KiB per 1,000 commands, {memory[-1] / 1024:.0f} MiB at the end; "
        f"open files {opened[0]} and {opened[-1]}; {warmed}, over {times[-1] - times[0]:.0f} s"
        if share == 1
        else "",
    )
