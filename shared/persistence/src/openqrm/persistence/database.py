"""A service's database: one schema, a pool of connections, transactions whose failures speak our language."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from openqrm.contracts.errors import TemporaryError

_TRY_AGAIN = {"40001", "40P01", "55P03"}
"""SQLSTATE of serialization failure, deadlock and lock not available: the same transaction may succeed next time."""

_NOT_NOW = {"53100", "53200", "53300", "57P01", "57P02", "57P03", "25006"}
"""SQLSTATE of disk full, out of memory, too many connections, shutting down, starting up, read only."""

SCHEMA_NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyz_")


class Database:
    """Connections to one PostgreSQL, with `schema` as their search path.

    `dsn`: postgresql+asyncpg://user:password@host/database, or with ?host=/socket/folder.
    """

    def __init__(self, dsn: str, schema: str, pool_size: int = 10) -> None:
        if not set(schema) <= SCHEMA_NAME_CHARACTERS:
            raise ValueError(f"{schema!r} is not a schema name: use lower-case letters and underscores")
        self.schema = schema
        self.engine: AsyncEngine = create_async_engine(
            dsn,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            connect_args={"server_settings": {"search_path": schema, "application_name": f"openqrm-{schema}"}},
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Begin, and commit at the end or roll back on any error.

        Raises TemporaryError when the database is away, full, or chose this transaction to break a deadlock.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (DBAPIError, OSError, TimeoutError) as error:
            if is_temporary(error):
                raise TemporaryError(
                    f"The database cannot do this right now: {_first_line(error)}. It will be tried again.",
                    retry_after=0.2 if _sqlstate(error) in _TRY_AGAIN else 1.0,
                ) from error
            raise

    async def ping(self) -> None:
        """Return if the database answers; raise TemporaryError if not."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return str(state) if state else None


def is_temporary(error: BaseException) -> bool:
    """Whether the same statement may succeed later without any change."""
    if isinstance(error, DBAPIError):
        state = _sqlstate(error)
        if state in _TRY_AGAIN or state in _NOT_NOW or (state or "").startswith("08"):
            return True
        return error.connection_invalidated or (isinstance(error, OperationalError | InterfaceError) and state is None)
    return isinstance(error, OSError | TimeoutError)


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0] if str(error) else type(error).__name__
