"""Starts a part again that ended by itself, such as a NATS that was killed."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from openqrm.bus.cancelling import end
from openqrm.contracts.clock import Clock
from openqrm.embedded.errors import StartError

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
CALM_SECONDS = 300.0
"""A part that ran this long is not held to have ended again and again."""


class Supervisor:
    """Watches over one part: told of its death, it starts it again, at once and then ever more patiently.

    It never gives up. What makes a part end, such as a full disk, often ends by itself, and what openQRM knows is safe
    meanwhile; until the part runs again requests are answered with "not right now". Each death and each failed attempt
    is told once, to the terminal and to the log.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[object]],
        clock: Clock,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """Watch over a part that `start` starts; it is safe to call that again when the part has ended."""
        self._name = name
        self._start = start
        self._clock = clock
        self._say = say
        self._warn = warn
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service="embedded", part=name)

    def begin(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._watch(), name=f"supervise {self._name}")

    async def end(self) -> None:
        """Watch no longer; an attempt to start the part is broken off. Harmless when it never began."""
        await end([self._task])
        self._task = None

    def died(self, sentence: str) -> None:
        """Hear that the part ended; the sentence says why."""
        self._log.error("a part ended by itself", reason=sentence)
        self._warn(sentence)
        self._ended.set()

    async def _watch(self) -> None:
        wait = FIRST_WAIT_SECONDS
        since = self._clock.monotonic()
        while True:
            await self._ended.wait()
            if self._clock.monotonic() - since > CALM_SECONDS:
                wait = FIRST_WAIT_SECONDS
            self._ended.clear()
            wait = await self._start_again(wait)
            since = self._clock.monotonic()

    async def _start_again(self, wait: float) -> float:
        """Try until it runs; returns how long to wait the next time that it ends."""
        while True:
            self._say(f"starting {self._name} again in {wait:g} s")
            await self._clock.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            try:
                await self._start()
            except StartError as error:
                self._log.error("a part does not start again", reason=str(error))
                self._warn(str(error))
                continue
            self._log.warning("a part runs again")
            self._say(f"{self._name} runs again")
            return wait
