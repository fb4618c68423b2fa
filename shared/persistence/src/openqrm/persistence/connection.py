"""One connection within a transaction: statements that are built for one call, and statements that are built once.

SQLAlchemy builds and checks a statement anew for each call, which costs more than PostgreSQL takes to run it. What
runs for every command is therefore built once, as a `Statement`, and given to the driver as it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any, TypeVar, cast

import asyncpg
import sqlalchemy
from sqlalchemy import CursorResult, Executable
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ClauseElement

Result = TypeVar("Result")

_PLACEHOLDER = re.compile(r"\$(\d+)")

_DIALECT = dialect()  # type: ignore[no-untyped-call]


class Statement:
    """A statement that is built once, from SQLAlchemy's tables or a text, and run by its parameters' names.

    Values go to the driver as they are, JSON as text, an enumeration as its value; JSON comes back parsed.
    """

    def __init__(self, clause: ClauseElement) -> None:
        compiled = clause.compile(dialect=_DIALECT)
        self.text = str(compiled)
        self.names: tuple[str, ...] = tuple(compiled.positiontup or ())  # type: ignore[attr-defined]
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}  # type: ignore[attr-defined]

    def numbered_after(self, taken: int) -> str:
        """The text with the numbers of its placeholders raised by so many."""
        return _PLACEHOLDER.sub(lambda match: f"${int(match[1]) + taken}", self.text)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the text's placeholders. KeyError names one that is missing."""
        fixed = self._fixed
        return [values[name] if name in values else fixed[name] for name in self.names]


@lru_cache(maxsize=256)
def _all_in_one(statements: tuple[Statement, ...]) -> str:
    parts = []
    counts = []
    taken = 0
    for number, statement in enumerate(statements):
        parts.append(f"c{number} AS ({statement.numbered_after(taken)} RETURNING 1)")
        counts.append(f"(SELECT count(*) FROM c{number})")  # noqa: S608 - made of our own statements only
        taken += len(statement.names)
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


class Connection:
    """A connection of the pool."""

    def __init__(self, alchemy: AsyncConnection, driver: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._alchemy = alchemy
        self.driver = driver

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement that was built for this call."""
        return await self._alchemy.execute(statement, parameters)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """A part of the transaction that can fail by itself."""
        return cast(AbstractAsyncContextManager[Any], self.driver.transaction())

    async def run_sync(self, work: Callable[[sqlalchemy.Connection], Result]) -> Result:
        """Let a library that knows nothing of asyncio work on the connection."""
        return await self._alchemy.run_sync(work)

    async def one(self, statement: Statement, **values: Any) -> asyncpg.Record | None:
        """The first row, or None when there is none."""
        return await self.driver.fetchrow(statement.text, *statement.arguments(values))

    async def all(self, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await self.driver.fetch(statement.text, *statement.arguments(values))
        return rows

    async def value(self, statement: Statement, **values: Any) -> Any:
        """The first column of the first row, or None."""
        return await self.driver.fetchval(statement.text, *statement.arguments(values))

    async def change(self, statement: Statement, **values: Any) -> int:
        """How many rows it inserted, changed or deleted."""
        status = await self.driver.execute(statement.text, *statement.arguments(values))
        return int(status.rsplit(" ", 1)[1])

    async def change_all(self, changes: Sequence[tuple[Statement, Mapping[str, Any]]]) -> tuple[int, ...]:
        """Run several changes in one round trip; how many rows each inserted, changed or deleted.

        None of them sees what the others do, so no two may touch the same row, and none may have a RETURNING or a
        WITH of its own.
        """
        arguments = [argument for statement, values in changes for argument in statement.arguments(values)]
        text = _all_in_one(tuple(statement for statement, _ in changes))
        row = await self.driver.fetchrow(text, *arguments)
        return tuple(row or ())
