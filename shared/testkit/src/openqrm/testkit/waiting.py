"""Waits for something to become true, in real time."""

from collections.abc import Awaitable, Callable

from openqrm.contracts.clock import SystemClock

POLL_SECONDS = 0.01


async def eventually(condition: Callable[[], object], seconds: float = 5.0, what: str = "") -> None:
    """Return once the condition holds; fail after so many seconds."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await clock.sleep(POLL_SECONDS)


async def eventually_async(condition: Callable[[], Awaitable[object]], seconds: float = 5.0, what: str = "") -> None:
    """The same for a condition that has to be awaited."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not await condition():
        if clock.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await clock.sleep(POLL_SECONDS)
