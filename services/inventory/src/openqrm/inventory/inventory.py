"""What every handler works with: transactions, the clock, the settings, and work that goes on after a commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import DuplicateError
from openqrm.inventory.adapters.tables import outbox
from openqrm.inventory.ports import Scheduler
from openqrm.inventory.settings import InventorySettings
from openqrm.inventory.transaction import Transaction
from openqrm.persistence.database import Database
from openqrm.persistence.outbox import OutboxRelay, write_outbox
from openqrm.telemetry.tracing import Tracing


class Inventory:
    """The service's heart, made by app.py."""

    def __init__(
        self,
        database: Database,
        relay: OutboxRelay,
        scheduler: Scheduler,
        clock: Clock,
        settings: InventorySettings,
        tracing: Tracing,
    ) -> None:
        self.database = database
        self.relay = relay
        self.scheduler = scheduler
        self.clock = clock
        self.settings = settings
        self.tracing = tracing
        self.log = structlog.get_logger(service="inventory")
        self._tasks: set[asyncio.Task[None]] = set()
        self.capacity_appeared = asyncio.Event()
        self.place: Callable[[UUID], Coroutine[Any, Any, None]] | None = None
        """Finds a host for an operation; set by app.py."""
        self.purge: Callable[[str, UUID], Awaitable[None]] = _nothing_to_purge
        """Drops the routed commands that wait for a host of a technology; set by app.py."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begin; at the end commit changes and messages together, then publish and go on with what follows.

        Raises DuplicateError when a name or an id is taken, TemporaryError when the database cannot do it now.
        """
        try:
            async with self.database.transaction() as connection:
                transaction = Transaction(connection, self.clock.now())
                yield transaction
                await write_outbox(connection, outbox, transaction.outgoing)
        except IntegrityError as error:
            raise _explain(error) from error
        if transaction.outgoing:
            self.relay.wake()
        for follow_up in transaction.after_commit:
            await follow_up()

    def place_after(self, transaction: Transaction, operation_id: UUID) -> None:
        """Find a host for an operation once the transaction is committed."""

        async def go_on() -> None:
            if self.place is not None:
                self.spawn(self.place(operation_id), f"place {operation_id}")

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
            self.log.warning("will be tried again by the sweeper", task=task.get_name(), error=str(error))

    async def stop(self) -> None:
        """End what goes on after commits."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing_to_purge(_technology: str, _host_id: UUID) -> None:
    pass


_UNIQUE = {
    "uq_resources_kind_name_live": "The name is taken by another one of its kind. Choose another name.",
    "pk_resources": "The id is taken. Let openQRM make one, or choose a new UUIDv7.",
    "uq_networks_name": "A network with this name exists. Choose another name.",
    "pk_networks": "A network with this id exists.",
    "uq_images_name": "An image with this name exists. Choose another name, or delete the old one first.",
    "pk_images": "An image with this id exists.",
    "uq_mac_addresses_request_id": "This request was answered a moment ago; ask again to get the same address.",
}


def _explain(error: IntegrityError) -> DuplicateError:
    cause = error.orig.__cause__ if error.orig else None
    constraint = getattr(cause, "constraint_name", None) or ""
    detail = getattr(cause, "detail", None) or ""
    return DuplicateError(
        _UNIQUE.get(constraint, f"This contradicts what is stored already ({constraint})."),
        details={"constraint": constraint, "detail": detail},
    )
