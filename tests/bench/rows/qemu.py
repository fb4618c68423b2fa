"""Real guests in the lab: what openQRM adds to libvirt's own time for start, resize, stop and live migration."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from harness.bench import Bench, say
from harness.row import Row
from virtual.life import life_rows
from virtual.moving import moving_rows
from virtual.site import Laboratory

ORDER = 10


async def measure(bench: Bench) -> AsyncIterator[Row]:
    """All rows of the lab; needs root."""
    laboratory = Laboratory()
    try:
        say("bringing the lab up")
        await asyncio.to_thread(laboratory.start)
        for rows in (life_rows(laboratory), moving_rows(laboratory)):
            while (row := await asyncio.to_thread(_next, rows)) is not None:
                yield row
    finally:
        await asyncio.to_thread(laboratory.close)


def _next(rows: Iterator[Row]) -> Row | None:
    return next(rows, None)
