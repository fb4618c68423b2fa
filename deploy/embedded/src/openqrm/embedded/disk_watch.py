"""Keeps an eye on the room on the disk that holds the state folder."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from openqrm.bus.cancelling import end
from openqrm.contracts.clock import Clock

MIB = 1024 * 1024
INTERVAL_SECONDS = 2.0
NEARLY_FULL = 256 * MIB
FULL = 32 * MIB
ROOM = 64 * MIB
"""From here on it is worth trying again what found no room."""


class DiskWatch:
    """Says when the disk gets full and when there is room again; then `on_room` mends what does not mend itself."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        on_room: Callable[[], Awaitable[None]],
    ) -> None:
        self._path = path
        self._clock = clock
        self._say = say
        self._warn = warn
        self._on_room = on_room
        self._told = 0
        """0: there is room, 1: it was said that the disk is nearly full, 2: that it is full."""
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service="embedded")

    def begin(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._watch(), name="watch the disk")

    async def end(self) -> None:
        """Look no longer. Harmless when it never began."""
        await end([self._task])
        self._task = None

    async def look(self, free: int) -> None:
        """Act on so many free bytes."""
        level = 2 if free < FULL else 1 if free < NEARLY_FULL else 0
        if level > self._told:
            self._told = level
            self._warn(
                f"the disk of {self._path} is full: nothing can be changed until there is room; "
                "what was accepted is kept and goes on then"
                if level == 2
                else f"the disk of {self._path} is nearly full: {free // MIB} MiB are free"
            )
            self._log.warning("the disk gets full", free_mib=free // MIB)
        elif self._told and free >= ROOM and level < self._told:
            if self._told == 2:
                self._say(f"there is room again on the disk of {self._path}: {free // MIB} MiB")
            self._told = level
        if free >= ROOM:
            await self._on_room()

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL_SECONDS)
            with suppress(OSError):
                status = os.statvfs(self._path)
                await self.look(status.f_bavail * status.f_frsize)
