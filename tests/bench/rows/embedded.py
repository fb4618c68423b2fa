"""The embedded shape: how soon it serves, and what memory all of it takes when idle, with an inventory that grows."""

import statistics
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from embedded.floor import FLOOR, BareEmbedded
from embedded.process import Embedded, imports_text
from harness.bench import Bench
from harness.processes import pss_kib, tree
from harness.row import Attempt, Goal, Row
from large.fill import EMPTY, SIZES, Size

ORDER = 7
STARTS = 3
SETTLE_SECONDS, FLOOR_SETTLE_SECONDS = 8.0, 2.0
INVENTORIES = (EMPTY, *SIZES[:2])


def memory(pid: int) -> tuple[float, str]:
    """MiB of PSS of a process with all below it, and the shares by program."""
    shares: dict[str, int] = {}
    for one in tree(pid):
        try:
            name = Path(f"/proc/{one}/comm").read_text().strip()
            shares[name] = shares.get(name, 0) + pss_kib(one)
        except OSError:
            continue
    text = ", ".join(f"{name} {kib / 1024:.0f}" for name, kib in sorted(shares.items(), key=lambda item: -item[1]))
    return sum(shares.values()) / 1024, text


async def memory_of(bench: Bench, started: Embedded | BareEmbedded, seconds: float) -> tuple[float, str]:
    """The memory so many seconds after the start."""
    await bench.clock.sleep(seconds)
    assert started.process is not None
    return memory(started.process.pid)


async def measured(bench: Bench, embedded: Embedded, floor: BareEmbedded, size: Size, first: str) -> list[Row]:
    """Start and memory with this inventory, in turns with the floor; it runs before and after."""
    took, bare = [], []
    bare_mebibytes = 0.0
    for number in range(STARTS if size is EMPTY else 1):
        await embedded.stop()
        bare.append(await floor.start())
        if number == 0:
            bare_mebibytes, _ = await memory_of(bench, floor, FLOOR_SETTLE_SECONDS)
        await floor.stop()
        took.append(await embedded.start())
    mebibytes, shares = await memory_of(bench, embedded, SETTLE_SECONDS)

    async def explain() -> str:
        await embedded.stop()
        return imports_text(await embedded.import_times())

    what = "a new inventory" if size is EMPTY else str(size)
    return [
        Row(
            f"embedded start to serving, warm disk: {what}",
            statistics.median(took),
            "s",
            FLOOR,
            statistics.median(bare),
            Goal(6) if size is EMPTY else None,
            note=first,
            explain=explain,
        ),
        Row(
            f"embedded memory, idle, PSS of all processes: {what}",
            mebibytes,
            "MiB",
            FLOOR,
            bare_mebibytes,
            Goal(450) if size is EMPTY else None,
            note=f"MiB by program: {shares} (NATS and PostgreSQL included; {SETTLE_SECONDS:g} s after the start)",
        ),
    ]


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """Two rows for each inventory; the goals are for a new one."""
    embedded = Embedded()
    floor: BareEmbedded | None = None
    try:
        first = f"the very first start, which makes the database, took {await embedded.start():.1f} s"
        await embedded.stop()
        floor = BareEmbedded(embedded, list(await embedded.import_times()))
        before = EMPTY
        for size in INVENTORIES:
            if size is not EMPTY:
                await embedded.fill(before, size)
                before, first = size, ""
            yield Attempt(f"embedded: {size}", partial(measured, bench, embedded, floor, size, first))
    finally:
        if floor is not None:
            await floor.stop()
        await embedded.close()
