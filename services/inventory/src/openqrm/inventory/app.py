"""Inventory's composition root."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.bus import Bus
from openqrm.bus.cancelling import end
from openqrm.bus.streams import EXECUTIONS, service_durable
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import OpenQrmError, TemporaryError
from openqrm.contracts.message import INVENTORY, Kind
from openqrm.contracts.placement import PlacementProposal, PlacementRequest, ProposePlacement
from openqrm.inventory.adapters.tables import dead_letters, inbox, technologies
from openqrm.inventory.bus_watch import BusWatch, SurePublisher
from openqrm.inventory.domain.mac_ranges import SEEDED, to_number
from openqrm.inventory.flows import evacuation, partitions, placement
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.settings import InventorySettings
from openqrm.inventory.subscribers import (
    QUERIES,
    SAMPLES,
    command_handlers,
    command_key,
    event_handlers,
    event_key,
    together,
)
from openqrm.persistence.database import Database
from openqrm.persistence.inbox import forget_old
from openqrm.persistence.migrations import migrate
from openqrm.persistence.outbox import OutboxRelay, forget_history
from openqrm.telemetry.tracing import Tracing

SCHEMA = "inventory"
CONCURRENCY = 64
"""Messages handled at once; more than the pool has connections only wait there."""
DATABASE_RETRY_SECONDS = 1.0
TIDY_SECONDS = 600.0
LOOK_AGAIN_SECONDS = (0.2, 2.0, 10.0)
"""After capacity appeared, when the operations that wait for it try again."""


class BusScheduler:
    """The scheduler, asked by the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def propose(self, request: PlacementRequest) -> PlacementProposal:
        """A host for a partition."""
        return await self._bus.request(ProposePlacement(request=request))


class InventoryService:
    """The service: start it, stop it."""

    def __init__(self, bus: Bus, clock: Clock, settings: InventorySettings, tracing: Tracing) -> None:
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._database = Database(settings.dsn, SCHEMA, settings.pool_size)
        publisher = SurePublisher(bus)
        self._reading = Database(settings.dsn, SCHEMA, settings.reading_pool_size)
        self._relay = OutboxRelay(self._database, publisher, clock, INVENTORY)
        self.inventory = Inventory(
            self._database, self._reading, self._relay, BusScheduler(bus), clock, settings, tracing
        )
        self.inventory.place = partial(placement.place, self.inventory)
        self.inventory.purge = self._purge
        self._bus_watch = BusWatch(bus, self.inventory, publisher)
        self._sweeper: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        """What was told last about something that does not work, so that it is told once."""
        self._log = structlog.get_logger(service=INVENTORY)
        bus.consume(
            service_durable(INVENTORY, Kind.COMMAND), command_handlers(self.inventory), command_key, CONCURRENCY
        )
        bus.consume(
            service_durable(INVENTORY, Kind.EVENT),
            event_handlers(self.inventory),
            event_key,
            CONCURRENCY,
            together(self.inventory),
        )
        for query, answer in QUERIES.items():
            bus.answer(query, partial(answer, self.inventory))

    async def start(self) -> None:
        """Bring the schema up to date, then begin to work. Waits for a database that is away."""
        await self._prepare_database()
        await self._bus.start()
        for sample, handle in SAMPLES.items():
            await self._bus.listen(sample, partial(handle, self.inventory), shared=True)
        with suppress(TemporaryError):
            await self._bus_watch.look()  # before the first message goes out
        self._watching = asyncio.create_task(self._bus_watch.run(), name="inventory bus watch")
        self._relay.start()
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="inventory sweeper")

    async def stop(self) -> None:
        """Finish what is in hand and let go; everything unfinished goes on after the next start."""
        await end([self._sweeper, self._watching])
        await self._bus.stop()
        await self.inventory.stop()
        with suppress(TemporaryError):
            await self._write_heartbeats()
        await self._relay.stop()
        await self._reading.close()
        await self._database.close()

    async def _prepare_database(self) -> None:
        while True:
            try:
                await migrate(self._database, "openqrm.inventory")
                await self._seed()
            except TemporaryError as error:
                self._note_trouble(error)
                await self._clock.sleep(DATABASE_RETRY_SECONDS)
            else:
                self._trouble = None
                return

    async def _seed(self) -> None:
        async with self._database.transaction() as connection:
            for name, (title, mac_range) in SEEDED.items():
                await connection.execute(
                    insert(technologies)
                    .values(
                        name=name,
                        title=title,
                        mac_first=to_number(mac_range.first) if mac_range else None,
                        mac_last=to_number(mac_range.last) if mac_range else None,
                    )
                    .on_conflict_do_nothing()
                )

    async def _purge(self, technology: str, host_id: UUID) -> None:
        await self._bus.js.purge_stream(EXECUTIONS, subject=f"*.*.{technology}.{host_id}")

    async def _sweep_forever(self) -> None:
        """Go on with operations whose next step was lost, as by a crash between a commit and what followed it."""
        clock, settings = self._clock, self._settings
        look_again: list[float] = [clock.monotonic()]  # a wish to look again may have been lost with the last process
        heartbeats_at = tidy_at = clock.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.inventory.capacity_appeared.wait(), settings.sweep_seconds)
            now = clock.monotonic()
            if self.inventory.capacity_appeared.is_set():
                self.inventory.capacity_appeared.clear()
                # The scheduler hears of it a moment later than we do, and how much later is not known.
                look_again += [now + delay for delay in LOOK_AGAIN_SECONDS]
                await clock.sleep(LOOK_AGAIN_SECONDS[0])
                now = clock.monotonic()
            try:
                if look_again and min(look_again) <= now:
                    look_again = [moment for moment in look_again if moment > now] or [now + settings.waiting_seconds]
                    await self._retry_waiting()
                await self._sweep()
                if heartbeats_at <= now:
                    heartbeats_at = now + settings.heartbeat_seconds
                    await self._write_heartbeats()
                if tidy_at <= now:
                    tidy_at = now + TIDY_SECONDS
                    await self._tidy()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next sweep may go well
                self._note_trouble(error)
                await clock.sleep(settings.sweep_seconds)
            else:
                self._trouble = None

    def _note_trouble(self, error: Exception) -> None:
        if str(error) == self._trouble:
            return  # told already
        self._trouble = str(error)
        expected = isinstance(error, OpenQrmError)
        self._log.warning("the sweep waits", reason=str(error), exc_info=None if expected else error)

    async def _retry_waiting(self) -> None:
        async with self.inventory.transaction() as tx:
            waiting = await tx.operations.waiting_ids()
        for operation_id in waiting:
            await placement.place(self.inventory, operation_id)
            if self.inventory.placement_waits is not None:
                return

    async def _sweep(self) -> None:
        async with self.inventory.transaction() as tx:
            stuck = await tx.operations.stuck_in_placement(
                tx.now - timedelta(seconds=self._settings.stuck_seconds), tx.now
            )
            idle = await tx.operations.idle_targets()
            evacuations = await tx.operations.with_children()
        for operation_id in stuck:
            await placement.place(self.inventory, operation_id)
            if self.inventory.placement_waits is not None:
                break
        for target_id in idle:
            await partitions.begin_next(self.inventory, target_id)
        for operation_id in evacuations:
            await evacuation.advance(self.inventory, operation_id)

    async def _write_heartbeats(self) -> None:
        """One statement for all hosts that were heard of, instead of one for each heartbeat."""
        seen, self.inventory.heartbeats = self.inventory.heartbeats, {}
        async with self.inventory.transaction() as tx:
            await tx.hosts.touch(seen)

    async def _tidy(self) -> None:
        settings = self._settings
        async with self.inventory.transaction() as tx:
            await forget_old(tx.connection, inbox)
            await forget_history(tx.connection, settings.history_days, settings.history_events)
            newest = (
                select(dead_letters.c.id).order_by(dead_letters.c.created_at.desc()).offset(settings.dead_letters_kept)
            )
            await tx.execute(delete(dead_letters).where(dead_letters.c.id.in_(newest)))
