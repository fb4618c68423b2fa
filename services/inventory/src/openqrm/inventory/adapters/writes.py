"""What a transaction has changed and not yet written.

A partition, an operation and the messages about them change together, several times in one transaction. They are
written once, together, in one round trip: at the end, or before the tables are read again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from openqrm.persistence.connection import Connection, Statement

ROWS_AT_ONCE = 20
"""In one statement. PostgreSQL takes 32,767 parameters, and a row has up to thirty."""


@dataclass(frozen=True)
class Write:
    """One row to insert or update; `on_missed` makes the error for when it did not find its row, or found one."""

    statement: Statement
    values: Mapping[str, Any]
    on_missed: Callable[[], Exception] | None = None


class Writes:
    """The rows that wait to be written."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[UUID | str, tuple[object, Callable[[], list[Write]]]] = {}

    def put(self, identity: UUID | str, thing: object, make: Callable[[], list[Write]]) -> None:
        """Write a thing later, as it is then. One that waits already is written once.

        RuntimeError when two objects stand for the same thing: the changes of one would be lost.
        """
        waiting, _ = self._waiting.setdefault(identity, (thing, make))
        if waiting is not thing:
            raise RuntimeError(f"{identity} was read twice in one transaction, and both were changed")

    async def flush_one(self, identity: UUID | str) -> None:
        """Write what waits if this thing is among it."""
        if identity in self._waiting:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. Raises the first error of a row that was missed."""
        writes = [write for _, make in self._waiting.values() for write in make()]
        self._waiting.clear()
        for start in range(0, len(writes), ROWS_AT_ONCE):
            await self._write(writes[start : start + ROWS_AT_ONCE])

    async def _write(self, writes: list[Write]) -> None:
        counts = await self._connection.change_all([(write.statement, write.values) for write in writes])
        for write, count in zip(writes, counts, strict=True):
            if count == 0 and write.on_missed is not None:
                raise write.on_missed()
