"""What every handler works with: transactions, the clock, the settings, and work that goes on after a commit."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from asyncpg import IntegrityConstraintViolationError
from sqlalchemy.exc import IntegrityError

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import DuplicateError, OpenQrmError, TemporaryError
from openqrm.inventory.domain.moments import BusClock
from openqrm.inventory.ports import Scheduler
from openqrm.inventory.settings import InventorySettings
from openqrm.inventory.transaction import AlreadyHandledError, Transaction
from openqrm.persistence.database import Database
from openqrm.persistence.outbox import OutboxRelay
from openqrm.telemetry.tracing import Tracing

PLACEMENTS_AT_ONCE = 8
"""More would only wait for the pool's connections, and keep the handlers from them."""


class Inventory:
    """The service's heart, made by app.py."""

    def __init__(
        self,
        database: Database,
        reading: Database,
        relay: OutboxRelay,
        scheduler: Scheduler,
        clock: Clock,
        settings: InventorySettings,
        tracing: Tracing,
    ) -> None:
        self.database = database
        self.reading = reading
        """Connections of their own for questions: these are answered while many commands wait for their turn."""
        self.relay = relay
        self.scheduler = scheduler
        self.clock = clock
        self.settings = settings
        self.tracing = tracing
        self.log = structlog.get_logger(service="inventory")
        self.heartbeats: dict[UUID, datetime] = {}
        """By host: when it was last heard of, not yet written."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.capacity_appeared = asyncio.Event()
        self.bus_clock = BusClock()
        self.placements = asyncio.Semaphore(PLACEMENTS_AT_ONCE)
        self.placement_waits: str | None = None
        """Why placements cannot be asked for at the moment, so that it is told once."""
        self.place: Callable[[UUID, Any], Coroutine[Any, Any, None]] | None = None
        """Finds a host for an operation; set by app.py."""
        self.purge: Callable[[str, UUID], Awaitable[None]] = _nothing_to_purge
        """Drops the routed commands that wait for a host of a technology; set by app.py."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin; at the end commit changes and messages together, then publish and go on with what follows.

        Raises DuplicateError when a name or an id is taken, InvalidError when a value cannot be stored, TemporaryError
        when the database cannot do it now.

        Rows are locked in this order, so that no two transactions wait for each other: a host's resource, partitions by
        id, operations, the hosts' counters, MAC addresses.
        """
        try:
            async with self.database.transaction() as connection:
                transaction = Transaction(connection, self.clock.now())
                yield transaction
                await transaction.finish()
        except AlreadyHandledError:
            return
        except (IntegrityError, IntegrityConstraintViolationError) as error:
            if known := _explain(error):
                raise known from error
            raise
        if transaction.outgoing:
            self.relay.wake()
        for follow_up in transaction.after_commit:
            try:
                await follow_up()
            except Exception as error:
                expected = isinstance(error, OpenQrmError)
                self.log.warning("the sweeper will go on", reason=str(error), exc_info=None if expected else error)

    def place_after(self, transaction: Transaction, operation_id: UUID, wanted: Any = None) -> None:
        """Find a host for an operation once the transaction is committed. `wanted`: what it needs, if it is known."""

        async def go_on() -> None:
            if self.place is not None:
                self.spawn(self.place(operation_id, wanted), f"place {operation_id}")

        transaction.after_commit.append(go_on)

    def retry_waiting_after(self, transaction: Transaction) -> None:
        """Capacity appeared: let the operations that wait for it try again once the transaction is committed."""

        async def go_on() -> None:
            self.capacity_appeared.set()

        transaction.after_commit.append(go_on)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Go on with something after the message that caused it was handled; the sweeper repeats what gets lost."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.log.error("the sweeper will go on", task=task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """End what goes on after commits."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing_to_purge(_technology: str, _host_id: UUID) -> None:
    pass


_UNIQUE = {
    "uq_resources_kind_name_live": "There is a {kind} {name} already. Choose another name.",
    "pk_resources": "The id is taken. Let openQRM make one, or choose a new UUIDv7.",
    "uq_networks_name": "There is a network {name} already. Choose another name.",
    "pk_networks": "A network with this id exists.",
    "uq_images_name": "There is an image {name} already. Choose another name, or delete the old one first.",
    "pk_images": "An image with this id exists.",
}
_KEY = re.compile(r"\((?:name\)=\(|kind, name\)=\((?P<kind>\w+), )(?P<name>.*)\) already exists", re.DOTALL)
"""PostgreSQL's detail, such as: Key (kind, name)=(partition, web 1) already exists."""
_RACE = {"uq_mac_addresses_request_id"}
"""Broken only by two that do the same at the same time: the second one finds what the first one did."""


def _explain(error: IntegrityError | IntegrityConstraintViolationError) -> OpenQrmError | None:
    """What a broken rule means to the caller; None when it is our own mistake."""
    cause = error.orig.__cause__ if isinstance(error, IntegrityError) and error.orig else error
    constraint = getattr(cause, "constraint_name", None) or ""
    if constraint in _RACE:
        return TemporaryError("The same was asked for at the same time. Ask again.", retry_after=0.1)
    if constraint in _UNIQUE:
        key = _KEY.search(getattr(cause, "detail", None) or "")
        kind, name = (key["kind"] or "thing", repr(key["name"])) if key else ("thing", "of this name")
        sentence = _UNIQUE[constraint].format(kind=kind, name=name)
        return DuplicateError(sentence, details={"constraint": constraint})
    return None
