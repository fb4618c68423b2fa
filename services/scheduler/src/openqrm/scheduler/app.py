"""Puts the scheduler together; the only place that does."""

import asyncio

import structlog

from openqrm.bus.bus import Bus
from openqrm.bus.cancelling import end
from openqrm.bus.streams import EVENTS
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.placement import PlacementProposal, ProposePlacement
from openqrm.scheduler.builder import build
from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.projection import Projection
from openqrm.scheduler.settings import SchedulerSettings
from openqrm.scheduler.subscribers import answer_queries, follow_events
from openqrm.scheduler.weighers import WEIGHERS


class SchedulerService:
    """The scheduler on a bus of its own, which it starts and stops."""

    def __init__(self, bus: Bus, clock: Clock, settings: SchedulerSettings) -> None:
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._pipeline = Pipeline(
            {weigher.name: getattr(settings, weigher.name) for weigher in WEIGHERS}, settings.explained_hosts
        )
        self._projection: Projection | None = None
        self._built = asyncio.Event()
        self._anew = asyncio.Event()
        """Set when the stream of events is another one than the projection was built from."""
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service=bus.service)

    async def start(self) -> None:
        """Answer at once, with a TemporaryError until the projection is built; that goes on in the background."""
        answer_queries(self._bus, self.propose_placement)
        await self._bus.start()
        self._task = asyncio.create_task(self._keep_current(), name="scheduler projection")

    async def stop(self) -> None:
        """Let go of the bus. Nothing is lost: nothing is kept."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._bus.stop()

    async def wait_until_built(self) -> None:
        """Return once placements are proposed."""
        await self._built.wait()

    @property
    def is_ready(self) -> bool:
        """Whether placements are proposed."""
        return self._projection is not None

    @property
    def projection_sequence(self) -> int | None:
        """Sequence of the last event that was taken in; None until the projection is built."""
        return None if self._projection is None else self._projection.sequence

    def propose_placement(self, query: ProposePlacement) -> PlacementProposal:
        """Choose a host. Raises TemporaryError while the projection is being built."""
        if self._projection is None:
            raise TemporaryError(
                "The scheduler's picture of the data centre is being built from inventory's lists. Try again.",
                retry_after=1.0,
            )
        return self._projection.propose(query.request, self._pipeline, self._clock.monotonic())

    async def _keep_current(self) -> None:
        while True:
            try:
                projection = await self._build()
                follower = await follow_events(self._bus, projection, self._on_anew)
            except TemporaryError as error:
                self._log.warning("cannot build the projection; trying again", error=str(error))
                await self._clock.sleep(self._settings.retry_seconds)
                continue
            self._projection = projection
            self._built.set()
            await self._until_events_are_missing(projection)
            # The old projection goes on answering, a little stale, until the new one is there.
            await self._bus.unfollow(follower)

    async def _build(self) -> Projection:
        started = self._clock.monotonic()
        projection = Projection(self._settings.pending_seconds)
        self._anew.clear()
        projection.sequence = (
            await self._bus.stream_state(EVENTS)
        ).last  # before the lists are read, so that no change falls between
        await build(self._bus, projection, self._settings.page_size)
        self._log.info(
            "the projection is built",
            hosts=projection.cluster.hosts.count,
            partitions=projection.partitions,
            sequence=projection.sequence,
            seconds=round(self._clock.monotonic() - started, 3),
        )
        return projection

    async def _on_anew(self) -> None:
        self._anew.set()

    async def _until_events_are_missing(self, projection: Projection) -> None:
        while True:
            waiting = asyncio.create_task(self._anew.wait(), name="stream anew")
            pausing = asyncio.create_task(self._clock.sleep(self._settings.check_seconds), name="check the stream")
            try:
                await asyncio.wait((waiting, pausing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end([waiting, pausing])
            try:
                state = await self._bus.stream_state(EVENTS)
            except TemporaryError:
                continue  # the follower goes on by itself when the bus is back
            if self._anew.is_set() or events_are_missing(projection.sequence, state.first, state.last):
                self._log.warning(
                    "events are missing from the stream; building the projection anew",
                    sequence=projection.sequence,
                    first=state.first,
                    last=state.last,
                )
                return


def events_are_missing(sequence: int, first: int, last: int) -> bool:
    """Whether a stream that holds `first` to `last` cannot continue after `sequence`.

    Either what comes next was dropped by the stream's limits, or the stream was made anew.
    """
    return sequence + 1 < first or sequence > last
