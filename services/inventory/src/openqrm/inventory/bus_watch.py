"""Notices that NATS came back without what it had kept, says so, and ends what nobody can end any more.

What each stream is and how far it came is remembered in the database. A stream that is another one by now, or has gone
back, means that messages are gone: commands that nobody had taken, routed commands that no executor had, reports that
inventory had not read. Which of them it was cannot be told, so every operation that waits for an executor's report
ends as failed, its partition is in doubt until its host is seen, and nothing is sent a second time.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.bus import Bus
from openqrm.bus.stream_state import StreamState
from openqrm.bus.streams import COMMANDS, EVENTS, EXECUTIONS
from openqrm.contracts.bus import BusLost
from openqrm.contracts.errors import OpenQrmError, Problem, ProblemCode, TemporaryError
from openqrm.inventory.adapters.tables import operations, streams
from openqrm.inventory.domain.operation import Phase
from openqrm.inventory.flows import undelivered
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.telemetry import metrics

WATCHED = (COMMANDS, EXECUTIONS, EVENTS)
LOOK_SECONDS = 2.0
BUS_ID = UUID(int=0)
"""What the event is about: there is one bus."""

LOST = Problem(
    code=ProblemCode.UNAVAILABLE,
    message="NATS lost what it had kept while this was carried out, and nobody knows what became of it. "
    "Look at what its host shows, then ask again if needed.",
)


class SurePublisher:
    """Publishes what is in the outbox only while it is sure which NATS that goes to.

    What went to new streams before the loss of the old ones was noticed would be taken for lost, too.
    """

    def __init__(self, bus: Bus) -> None:
        self.checked: int | None = None
        """The connection on which the streams were looked at and found to be the known ones."""
        self._bus = bus

    @property
    def is_sure(self) -> bool:
        """Whether the NATS that is connected now has the streams that inventory knows."""
        return self._bus.is_connected and self.checked == self._bus.connection

    async def publish_kept(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        """Publish as the bus does. Raises TemporaryError when it cannot be now."""
        self._check()
        return await self._bus.publish_kept(subject, headers, body)

    async def publish_together(self, messages: Sequence[tuple[str, dict[str, str], bytes]]) -> list[int] | None:
        """Publish as the bus does. Raises TemporaryError when it cannot be now."""
        self._check()
        return await self._bus.publish_together(messages)

    def _check(self) -> None:
        if not self.is_sure:
            raise TemporaryError("NATS was away; its streams are being looked at first.", retry_after=0.5)


class BusWatch:
    """Compares the streams with those that were there before."""

    def __init__(self, bus: Bus, inventory: Inventory, publisher: SurePublisher) -> None:
        self._bus = bus
        self._inventory = inventory
        self._publisher = publisher
        self._trouble: str | None = None
        self._log = structlog.get_logger(service="inventory")

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except OpenQrmError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._log.warning("the streams cannot be looked at", reason=self._trouble)
            except Exception:  # noqa: BLE001 - whatever it is, the next look may go well
                self._log.exception("looking at the streams failed")
            else:
                self._trouble = None
            await self._inventory.clock.sleep(LOOK_SECONDS if self._publisher.is_sure else LOOK_SECONDS / 4)

    async def look(self) -> None:
        """Compare once, and deal with a loss. Raises TemporaryError when NATS or the database is away."""
        connection = self._bus.connection
        # First what was, then what is: while nothing is lost, a stream only grows in between.
        known = await self._known()
        found = {name: await self._bus.stream_state(name) for name in WATCHED}
        lost = [name for name in WATCHED if name in known and not found[name].continues(known[name])]
        if lost:
            await self._recover(known, found, lost)
        elif _noted(found) != known:
            await self._remember(known, found)
        self._publisher.checked = connection

    async def _known(self) -> dict[str, StreamState]:
        async with self._inventory.transaction() as tx:
            return await _read(tx)

    async def _remember(self, known: dict[str, StreamState], found: dict[str, StreamState]) -> None:
        async with self._inventory.transaction() as tx:
            if await _read(tx, lock=True) == known:
                await _write(tx, found)

    async def _recover(self, known: dict[str, StreamState], found: dict[str, StreamState], lost: list[str]) -> None:
        self._log.error(
            "NATS LOST WHAT IT HAD KEPT: its streams are not those that inventory knows",
            streams=lost,
            known={name: [known[name].identity, known[name].last] for name in lost},
            found={name: [found[name].identity, found[name].last] for name in lost},
            see="docs/operations.md",
        )
        async with self._inventory.transaction() as tx:
            if await _read(tx, lock=True) != known:
                return  # another replica has dealt with it
            unfinished = await _without_a_report(tx)
        # First these, then the new streams are noted: after a crash in between it is all done again. Nothing new is
        # published meanwhile, by this replica or another one, so that only what was lost is among them.
        for operation_id, technology in unfinished:
            await undelivered.fail(self._inventory, operation_id, technology, LOST)
        async with self._inventory.transaction() as tx:
            if await _read(tx, lock=True) != known:
                return
            await _write(tx, found)
            tx.send(BusLost(streams=tuple(lost), operations_failed=len(unfinished)), BUS_ID)
        metrics.BUS_LOSSES.labels("inventory").inc()
        self._log.error("what NATS had lost was dealt with", operations_failed=len(unfinished))


def _noted(found: dict[str, StreamState]) -> dict[str, StreamState]:
    return {name: StreamState(state.identity, 0, state.last) for name, state in found.items()}


async def _read(tx: Transaction, lock: bool = False) -> dict[str, StreamState]:
    statement = select(streams).order_by(streams.c.name)
    rows = await tx.execute(statement.with_for_update() if lock else statement)
    return {row.name: StreamState(row.identity, 0, row.last_sequence) for row in rows}


async def _write(tx: Transaction, found: dict[str, StreamState]) -> None:
    for name, state in sorted(found.items()):
        values = {"identity": state.identity, "last_sequence": state.last}
        await tx.execute(
            insert(streams).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=values)
        )


_UNPUBLISHED = text(
    "NOT EXISTS (SELECT FROM outbox WHERE NOT history AND starts_with(headers ->> 'ce-id', operations.id::text))"
)
"""Its routed command is not lost: it was not published yet."""


async def _without_a_report(tx: Transaction) -> list[tuple[UUID, str]]:
    """Operations whose routed command was published and whose report has not come, with the technology."""
    rows = await tx.execute(
        select(operations.c.id, operations.c.context["routed_to"].astext.label("host"))
        .where(operations.c.state == "running", operations.c.phase == Phase.EXECUTION.value, _UNPUBLISHED)
        .order_by(operations.c.created_at)
    )
    found = []
    for row in rows.all():
        host = await tx.hosts.get(UUID(row.host)) if row.host else None
        found.append((row.id, host.technology if host else ""))
    return found
