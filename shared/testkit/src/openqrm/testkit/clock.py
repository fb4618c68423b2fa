"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE_ROUNDS = 25
"""Passes of the event loop after each step. A chain of tasks that wake each other and is longer than this settles only
in the next step; none of ours comes near."""


class ManualClock:
    """Virtual time. Whoever sleeps is woken in the order of the times, and of falling asleep where those are equal."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> datetime:
        """The virtual wall clock."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Virtual seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the time far enough."""
        if seconds <= 0:
            await yield_now()
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._numbers), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass; every sleeper wakes at its own time, and what it does is done before the next."""
        await self.settle()
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue  # cancelled
            self._elapsed = max(self._elapsed, at)
            woken.set_result(None)
            await self.settle()
        self._elapsed = end
        await self.settle()

    async def settle(self) -> None:
        """Let every task run that can run without time passing."""
        for _ in range(SETTLE_ROUNDS):
            await yield_now()


async def yield_now() -> None:
    """Let the other tasks run once."""
    await asyncio.sleep(0)  # noqa: TID251 - no time passes
