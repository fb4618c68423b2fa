"""One follower of the event stream, any number of clients.

A client begins at a sequence number. As long as the hub has the events since then in memory, it attaches and gets them
and all that follow; before that it catches up by reading the stream piece by piece (`subscribe`). Attaching happens
between two events, so that nothing is missing and nothing comes twice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import structlog

from openqrm.bus.bus import Bus
from openqrm.bus.follow import Followed, Follower
from openqrm.bus.streams import EVENTS
from openqrm.gateway.events.event import LiveEvent
from openqrm.gateway.events.filters import EventFilter
from openqrm.gateway.events.reader import StreamReader, StreamState
from openqrm.gateway.waiters import Waiters

_PIECE = 500
_MEMORY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Gap:
    """Events that the client asked for and that are not there."""

    since: int
    first_available: int
    detail: str


def gap_before(since: int, kept: StreamState) -> Gap | None:
    """What is missing after `since`, if anything is."""
    ending = "Read the lists again to know how things are now; what follows is complete."
    if since > kept.last:
        return Gap(
            since,
            kept.last + 1,
            f"There is no event {since} yet: the last one is {kept.last}, so the number comes from another "
            f"installation, or this one was restored. {ending}",
        )
    if since > 0 and since + 1 < kept.first:  # 0: whatever there is
        missing = f"The events {since + 1} to {kept.first - 1} are no longer kept."
        return Gap(since, kept.first, f"{missing} {ending}")
    return None


@dataclass(frozen=True)
class Dropped:
    """The end of a subscription that the gateway made."""

    reason: str


SLOW = (
    "This client reads more slowly than events come, and {count} were waiting for it. "
    "Connect again with since={sequence}; ask for fewer subjects if it happens again."
)
LOST = "The bus has lost what it kept. Connect again with since={sequence}, which tells what is missing."
CLOSING = "The gateway is shutting down. Connect again in a moment with since={sequence}."


class Subscription:
    """The events of one live client, waiting to be sent."""

    def __init__(self, wanted: EventFilter, after: int, limit: int) -> None:
        self.wanted = wanted
        self.sent_to = after
        """The client has all its events up to this one, or they wait here."""
        self._after = after
        self._limit = limit
        self._waiting: deque[LiveEvent] = deque()
        self._wake = asyncio.Event()
        self._dropped: str | None = None

    def backlog(self, events: list[LiveEvent]) -> None:
        """Put events in that came before it was attached; they do not count as its lag."""
        self._waiting.extend(events)
        self._limit += len(events)
        self._wake.set()

    def offer(self, event: LiveEvent) -> bool:
        """Put one event in; False when the client is too slow to be kept."""
        if event.sequence > self._after and self.wanted.passes(event):
            if len(self._waiting) >= self._limit:
                self.drop(SLOW)
                return False
            self._waiting.append(event)
            self._wake.set()
        return True

    def drop(self, reason: str) -> None:
        """End it: what waits is forgotten, the client resumes from what it has."""
        oldest = self._waiting[0].sequence - 1 if self._waiting else self.sent_to
        self._dropped = reason.format(count=len(self._waiting), sequence=oldest)
        self._waiting.clear()
        self._wake.set()

    async def next(self, timeout: float) -> list[LiveEvent] | Dropped | None:
        """What waits; None when nothing came in time."""
        if not self._waiting and self._dropped is None:
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return None
        self._wake.clear()
        if self._dropped is not None:
            return Dropped(self._dropped)
        events = list(self._waiting)
        self._waiting.clear()
        if events:
            self.sent_to = events[-1].sequence
        return events or None


class EventHub:
    """Follows the events and hands them to the clients, the waiting requests and whoever else listens."""

    def __init__(self, bus: Bus, reader: StreamReader, waiters: Waiters, queue_limit: int, memory: int) -> None:
        self._bus = bus
        self._reader = reader
        self._waiters = waiters
        self._queue_limit = queue_limit
        self._memory = memory
        self._recent: deque[LiveEvent] = deque()
        self._recent_bytes = 0
        self._floor = 0
        """All events after this sequence are in memory."""
        self._last = 0
        self._clients: set[Subscription] = set()
        self._listeners: list[Callable[[LiveEvent], None]] = []
        self._follower: Follower | None = None
        self.closing = asyncio.Event()
        """Set when the gateway stops."""
        self._log = structlog.get_logger(service="gateway")

    def listen(self, listener: Callable[[LiveEvent], None]) -> None:
        """Call a function for every event; it must not block."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Follow the stream from now on."""
        self._floor = self._last = (await self._reader.state(EVENTS)).last
        self._follower = await self._bus.follow(
            EVENTS, self._deliver, from_sequence=self._last + 1, on_anew=self._begin_anew
        )

    def close(self) -> None:
        """End all clients, telling them so."""
        self.closing.set()
        for client in self._clients:
            client.drop(CLOSING)
        self._clients.clear()

    async def stop(self) -> None:
        """Stop following."""
        self.close()
        if self._follower:
            await self._bus.unfollow(self._follower)
            self._follower = None

    @property
    def clients(self) -> int:
        """How many live clients there are."""
        return len(self._clients)

    @property
    def last(self) -> int:
        """Sequence of the last event."""
        return self._last

    async def _begin_anew(self) -> None:
        """The stream was made anew: nobody can be told what is missing but by coming back with its number."""
        kept = await self._reader.state(EVENTS)
        self._recent.clear()
        self._recent_bytes = 0
        self._floor = self._last = kept.first - 1
        for client in self._clients:
            client.drop(LOST)
        self._clients.clear()

    async def _deliver(self, followed: Followed) -> None:
        event = LiveEvent(followed)
        if self._waiters and event.subject.startswith("operation."):
            try:
                self._waiters.tell(event.body)
            except ValueError:
                self._log.warning("an event cannot be read", subject=event.subject, sequence=event.sequence)
        for listener in self._listeners:
            listener(event)
        self._remember(event)
        self._last = event.sequence
        slow = [client for client in self._clients if not client.offer(event)]
        for client in slow:
            self._clients.discard(client)

    def _remember(self, event: LiveEvent) -> None:
        self._recent.append(event)
        self._recent_bytes += len(event.body)
        while len(self._recent) > self._memory or self._recent_bytes > _MEMORY_BYTES:
            gone = self._recent.popleft()
            self._recent_bytes -= len(gone.body)
            self._floor = gone.sequence

    def _attach(self, wanted: EventFilter, since: int) -> Subscription:
        """Make a live client of one whose next event is in memory or yet to come. No `await` in here: see above."""
        client = Subscription(wanted, since, self._queue_limit)
        if since < self._last:
            client.backlog([e for e in self._recent if e.sequence > since and wanted.passes(e)])
        if self.closing.is_set():
            client.drop(CLOSING)
        else:
            self._clients.add(client)
        return client

    def detach(self, client: Subscription) -> None:
        """Forget a client that is gone."""
        self._clients.discard(client)

    async def subscribe(
        self, wanted: EventFilter, since: int, idle_seconds: float
    ) -> AsyncGenerator[list[LiveEvent] | Gap | Dropped | None, None]:
        """Everything after `since`, then what comes; None after each silence of `idle_seconds`."""
        if since < self._floor or since > self._last:
            kept = await self._reader.state(EVENTS)
            if gap := gap_before(since, kept):
                yield gap
                since = gap.first_available - 1
        while since < self._floor and not self.closing.is_set():
            piece = await self._reader.read(EVENTS, since + 1, _PIECE, wanted.subjects)
            since = piece.read_to
            if events := [event for event in map(LiveEvent, piece.messages) if wanted.passes(event)]:
                yield events
        client = self._attach(wanted, since)
        try:
            while True:
                news = await client.next(idle_seconds)
                yield news
                if isinstance(news, Dropped):
                    return
        finally:
            self.detach(client)
