"""Inventory's composition root."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.bus import Bus
from openqrm.bus.streams import EXECUTIONS, service_durable
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.message import INVENTORY, Kind
from openqrm.contracts.placement import PlacementProposal, PlacementRequest, ProposePlacement
from openqrm.contracts.states import OperationState
from openqrm.inventory.adapters.tables import inbox, operations, resources, technologies
from openqrm.inventory.domain.mac_ranges import SEEDED, to_number
from openqrm.inventory.flows import partitions, placement
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.settings import InventorySettings
from openqrm.inventory.subscribers import (
    QUERIES,
    SAMPLES,
    command_handlers,
    command_key,
    event_handlers,
    event_key,
)
from openqrm.persistence.database import Database
from openqrm.persistence.inbox import forget_old
from openqrm.persistence.migrations import migrate
from openqrm.persistence.outbox import OutboxRelay
from openqrm.telemetry.tracing import Tracing

SCHEMA = "inventory"
CONCURRENCY = 64
"""Messages handled at once; more than the pool has connections only wait there."""


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
        self._relay = OutboxRelay(self._database, bus, clock, INVENTORY)
        self.inventory = Inventory(self._database, self._relay, BusScheduler(bus), clock, settings, tracing)
        self.inventory.place = partial(placement.place, self.inventory)
        self.inventory.purge = self._purge
        self._sweeper: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service=INVENTORY)
        bus.consume(
            service_durable(INVENTORY, Kind.COMMAND), command_handlers(self.inventory), command_key, CONCURRENCY
        )
        bus.consume(service_durable(INVENTORY, Kind.EVENT), event_handlers(self.inventory), event_key, CONCURRENCY)
        for query, answer in QUERIES.items():
            bus.answer(query, partial(answer, self.inventory))

    async def start(self) -> None:
        """Bring the schema up to date, then begin to work."""
        await migrate(self._database, "openqrm.inventory")
        await self._seed()
        await self._bus.start()
        for sample, handle in SAMPLES.items():
            await self._bus.listen(sample, partial(handle, self.inventory), shared=True)
        self._relay.start()
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="inventory sweeper")

    async def stop(self) -> None:
        """Finish what is in hand and let go; everything unfinished goes on after the next start."""
        if self._sweeper:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self._bus.stop()
        await self.inventory.stop()
        await self._relay.stop()
        await self._database.close()

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
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.inventory.capacity_appeared.wait(), self._settings.sweep_seconds)
            try:
                if self.inventory.capacity_appeared.is_set():
                    self.inventory.capacity_appeared.clear()
                    await self._retry_waiting()
                await self._sweep()
            except OpenQrmError as error:
                self._log.warning("the sweep waits", reason=error.message)
                await self._clock.sleep(self._settings.sweep_seconds)

    async def _retry_waiting(self) -> None:
        async with self.inventory.transaction() as tx:
            waiting = await tx.operations.waiting_ids()
        for operation_id in waiting:
            with suppress(OpenQrmError):
                await placement.place(self.inventory, operation_id)

    async def _sweep(self) -> None:
        async with self.inventory.transaction() as tx:
            before = tx.now - timedelta(seconds=self._settings.stuck_seconds)
            stuck = await tx.operations.stuck_in_placement(before)
            idle = await tx.connection.execute(
                select(operations.c.target_id)
                .distinct()
                .join(resources, resources.c.id == operations.c.target_id)
                .where(operations.c.state == OperationState.QUEUED.value, resources.c.operation_id.is_(None))
            )
            idle_targets = list(idle.scalars())
            await forget_old(tx.connection, inbox)
            await tx.connection.execute(text("DELETE FROM events WHERE published_at < now() - interval '30 days'"))
        for operation_id in stuck:
            self.inventory.spawn(placement.place(self.inventory, operation_id), f"place {operation_id}")
        for target_id in idle_targets:
            await partitions.begin_next(self.inventory, target_id)
