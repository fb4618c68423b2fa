"""Time limits on the injected clock, cheap enough for a ping of each of thousands of hosts every few seconds.

`asyncio.timeout` would count real time, also in a simulation.
"""

import asyncio
import heapq
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType

from openqrm.contracts.clock import Clock


@dataclass(order=True)
class _Entry:
    at: float
    number: int
    task: asyncio.Task[object] | None = field(compare=False)
    """None once the work has ended."""
    fired: bool = field(default=False, compare=False)


class Deadlines:
    """Cancels the tasks whose time is over; one watcher sleeps until the earliest of all deadlines."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[_Entry] = []
        self._numbers = count()
        self._watcher: asyncio.Task[None] | None = None
        self._wakes_at = 0.0

    def limit(self, seconds: float) -> "Limit":
        """`with deadlines.limit(5): await …` raises TimeoutError when it takes longer."""
        return Limit(self, seconds)

    async def stop(self) -> None:
        """Let go of the watcher; nothing times out any more."""
        watcher, self._watcher = self._watcher, None
        if watcher:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def add(self, seconds: float) -> _Entry:
        """Begin to watch the current task."""
        entry = _Entry(self._clock.monotonic() + seconds, next(self._numbers), asyncio.current_task())
        heapq.heappush(self._entries, entry)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="deadlines")
            self._wakes_at = entry.at
        elif entry.at < self._wakes_at:
            self._watcher.cancel()
            self._watcher = asyncio.create_task(self._watch(), name="deadlines")
            self._wakes_at = entry.at
        return entry

    async def _watch(self) -> None:
        while self._entries:
            first = self._entries[0]
            delay = first.at - self._clock.monotonic()
            if first.task is not None and delay > 0:
                self._wakes_at = first.at
                await self._clock.sleep(delay)
                continue
            heapq.heappop(self._entries)
            if first.task is not None:
                first.fired = True
                first.task.cancel()


class Limit:
    """One deadline, as a context manager; made by Deadlines.limit."""

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds

    def __enter__(self) -> None:
        self._entry = self._deadlines.add(self._seconds)
        task = self._entry.task
        self._cancelling = task.cancelling() if task else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._entry.task = self._entry.task, None
        if self._entry.fired and task:
            # Somebody else's cancellation at the same time stays one.
            ours_only = task.uncancel() <= self._cancelling
            if ours_only and kind is asyncio.CancelledError:
                raise TimeoutError(f"not done within {self._seconds:g} s") from error
