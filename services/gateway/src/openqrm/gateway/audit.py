"""Who did what: one line for every request that changes something, allowed or refused."""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import event, select, text

from openqrm.contracts.clock import Clock
from openqrm.gateway.adapters.tables import audit
from openqrm.persistence.connection import Statement
from openqrm.persistence.database import Database


@dataclass(frozen=True)
class AuditEntry:
    """One request and what came of it."""

    at: datetime
    user_name: str
    credential: str
    """token:<id>, session:<id>, or empty."""
    method: str
    path: str
    verb: str
    """The command's subject, such as partition.start, where the request was one."""
    target: str
    operation_id: UUID | None
    status: int
    code: str
    """The problem's code when it was refused."""
    remote: str
    trace_id: str | None


_FIELDS = tuple(field.name for field in fields(AuditEntry))
_TYPES = {"at": "timestamptz", "operation_id": "uuid", "status": "integer"}
_ARRAYS = ", ".join(f"CAST(:{name} AS {_TYPES.get(name, 'text')}[])" for name in _FIELDS)
_WRITE = Statement(
    text(
        f"INSERT INTO audit ({', '.join(_FIELDS)}) SELECT {', '.join(_FIELDS)} "  # noqa: S608 - our own field names
        f"FROM unnest({_ARRAYS}) WITH ORDINALITY AS entry({', '.join(_FIELDS)}, place) ORDER BY place"
    )
)
"""Adds entries, in their order: an array per column."""


class AuditLog:
    """Writes entries in batches: those that come while one batch is being written share the next.

    A request waits for its entry, but not for the disk: a power cut can take the last fraction of a second. The
    operations themselves, with who asked for them, are kept by inventory with a full commit.
    """

    def __init__(self, database: Database, dsn: str) -> None:
        self._database = database
        self._own = Database(dsn, database.schema, pool_size=1)
        # One statement per batch, on a connection that does not wait for the disk.
        event.listen(self._own.engine.sync_engine, "connect", _do_not_wait_for_the_disk)
        self._pending: list[tuple[AuditEntry, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service="gateway")

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_forever(), name="audit")

    async def stop(self) -> None:
        """Write what is left."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._write()
        await self._own.close()

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry and return when it is written; when that fails, the log gets it."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, written))
        self._wake.set()
        await written

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write()

    async def _write(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            async with self._own.connect() as connection:
                columns = {name: [getattr(entry, name) for entry, _ in batch] for name in _FIELDS}
                await connection.change(_WRITE, **columns)
        except Exception as error:  # noqa: BLE001 - what cannot be kept in the table is kept in the log
            for entry, _ in batch:
                self._log.error("an audit entry was not written", error=str(error), entry=asdict(entry))
        finally:
            for _, written in batch:
                if not written.done():
                    written.set_result(None)

    async def page(
        self, limit: int, before: int | None, user: str | None, target: str | None
    ) -> list[tuple[int, AuditEntry]]:
        """The newest entries, or those before an id, with their ids."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        if user is not None:
            query = query.where(audit.c.user_name == user)
        if target is not None:
            query = query.where(audit.c.target == target)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [_entry(row) for row in rows]


def _do_not_wait_for_the_disk(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = off")
    cursor.close()
    connection.commit()


def _entry(row: Any) -> tuple[int, AuditEntry]:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    return values.pop("id"), AuditEntry(**values)


class Throttle:
    """Lets a few through per key and minute: a flood of refused requests must not fill the disk."""

    def __init__(self, clock: Clock, per_minute: int = 20) -> None:
        self._clock = clock
        self._limit = per_minute
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Count one; whether it is within the limit."""
        now = self._clock.monotonic()
        since, count = self._seen.pop(key, (now, 0))
        if now - since > 60:
            since, count = now, 0
        self._seen[key] = (since, count + 1)
        while len(self._seen) > 10_000:
            self._seen.popitem(last=False)
        return count < self._limit
