"""Messages that wait in lanes: in order within one, lanes at once; what waits behind another is handled together.

Nobody waits for a lane to fill: whoever comes to an empty one is handled at once, by itself. Only what comes while a
lane is at work gathers there, and then one transaction serves for many.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from openqrm.bus.cancelling import end
from openqrm.bus.delivery import Delivery
from openqrm.bus.streams import ACK_WAIT_SECONDS
from openqrm.contracts.clock import Clock
from openqrm.contracts.message import Message

MOST_WAITING = 10_000
"""Messages in all lanes; then no more is taken from the bus, until half of them are done. A thousand take 5 MB."""
LANES_AT_WORK = 64
GATHERED_AT_WORK = 4
"""Lanes of those that handle many at once: behind, more gathers meanwhile, and more of it is superseded."""
SIGN_OF_LIFE_SECONDS = ACK_WAIT_SECONDS / 3


@dataclass(frozen=True)
class Together:
    """How the messages of a consumer wait in lanes, and those of one model are handled together."""

    lane: Callable[[Any], Hashable]
    """The lane of a message of any model; None: it waits in none."""
    model: type[Message]
    """What can be handled together."""
    superseded: Callable[[Sequence[Any]], set[int]]
    """Of messages with the same key, oldest first, the places of those that need not be handled."""
    handler: Callable[[Sequence[tuple[Any, Delivery]], Sequence[str]], Awaitable[None]]
    """Handles messages of one lane, oldest first, and is told the ids of those that they supersede: all or none."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A message that was read and waits for its turn."""

    message: Msg
    body: Any
    is_old: bool = False
    """Whether it was there already when signs of life were given last."""


class Lanes:
    """The lanes of one consumer.

    `alone` handles one message and settles it, `many` does so for several that wait one behind the other.
    """

    def __init__(
        self,
        together: Together,
        alone: Callable[[Waiting], Awaitable[None]],
        many: Callable[[list[Waiting]], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._model = together.model
        self._alone = alone
        self._many = many
        self._clock = clock
        self._lanes: dict[Hashable, deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._room = asyncio.Event()
        self._turns = asyncio.Semaphore(LANES_AT_WORK)
        self._gathered = asyncio.Semaphore(GATHERED_AT_WORK)
        self._living: asyncio.Task[None] | None = None
        self._stopping = False
        self._log = structlog.get_logger()

    async def put(self, lane: Hashable, waiting: Waiting) -> None:
        """Let a message wait in a lane; returns once there is room for it."""
        while self._count >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        self._count += 1
        if self._living is None:
            self._living = asyncio.create_task(self._show_life(), name="signs of life")
        line = self._lanes.get(lane)
        if line is not None:
            line.append(waiting)
            return
        self._lanes[lane] = deque((waiting,))
        task = asyncio.create_task(self._work(lane), name=f"lane {lane}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, timeout: float) -> None:
        """Finish what is at work; what has not begun is given back, to be delivered again at once."""
        self._stopping = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            await end(late)
        await end([self._living])

    async def _work(self, lane: Hashable) -> None:
        """Handle what waits in a lane until nothing does."""
        line = self._lanes[lane]
        async with self._turns:
            while line and not self._stopping:
                async with self._gathered if self._gathers(line) else nullcontext():
                    step = self._next(line)
                    try:
                        await (self._alone(step[0]) if len(step) == 1 else self._many(step))
                    except Exception as error:  # noqa: BLE001 - what was not settled comes again after its ack wait
                        self._log.warning("messages could not be settled", count=len(step), error=str(error))
                for _ in step:
                    line.popleft()
                self._done(len(step))
        del self._lanes[lane]
        for waiting in line:
            await self._give_back(waiting)

    def _gathers(self, line: deque[Waiting]) -> bool:
        """Whether the first two can be handled together."""
        return len(line) > 1 and type(line[0].body) is type(line[1].body) is self._model

    def _next(self, line: deque[Waiting]) -> list[Waiting]:
        """The first one, with all that follow it if these can be handled together."""
        step = list(takewhile(lambda waiting: type(waiting.body) is self._model, line))
        return step or [line[0]]

    def _done(self, count: int) -> None:
        self._count -= count
        if self._count <= MOST_WAITING // 2:
            self._room.set()

    async def _give_back(self, waiting: Waiting) -> None:
        try:
            await waiting.message.nak()
        except NatsError as error:
            self._log.warning("a message could not be given back", subject=waiting.message.subject, error=str(error))
        self._done(1)

    async def _show_life(self) -> None:
        """Keep what waits for long from being given to another replica."""
        while True:
            await self._clock.sleep(SIGN_OF_LIFE_SECONDS)
            for waiting in [waiting for line in self._lanes.values() for waiting in line]:
                if waiting.is_old and not waiting.message.is_acked:
                    try:
                        await waiting.message.in_progress()
                    except NatsError:
                        break  # the connection is gone, and with it what was asked for
                waiting.is_old = True
