"""Waiting for what real parts do in their own time."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await pause(0.02)


async def pause(seconds: float) -> None:
    """Let real time pass."""
    await asyncio.sleep(seconds)  # noqa: TID251 - real time
