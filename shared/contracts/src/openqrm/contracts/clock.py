"""The one source of time: every service gets a Clock injected, so that time can be simulated."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits; the only way in openQRM to do either."""

    def now(self) -> datetime:
        """The wall clock, timezone-aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back when the wall clock is set."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""


CATCH_UP = 0.5
"""Seconds by which `SystemClock.now` goes on for each second, while the machine's clock is behind it."""


class SystemClock:
    """The clock of the machine, but for one thing: `now` never goes back.

    When the machine's clock is set back, `now` goes on at half the speed until the machine has caught up. So what was
    noted before is not in the future, and what comes later has a later time.
    """

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._told_at = 0.0

    def now(self) -> datetime:
        wall, at = datetime.now(UTC), time.monotonic()  # noqa: TID251 - the one place
        if self._told is not None and wall < self._told:
            wall = self._told + timedelta(seconds=max(at - self._told_at, 0.0) * CATCH_UP)
        self._told, self._told_at = wall, at
        return wall

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - the one place
