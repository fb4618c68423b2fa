"""A service's database: one schema, a pool of connections, transactions whose failures speak our language."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncpg import InterfaceError as DriverInterfaceError
from asyncpg import InternalClientError, InvalidCachedStatementError, PostgresError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from openqrm.contracts.errors import InvalidError, TemporaryError
from openqrm.persistence.connection import Connection

CONNECT_SECONDS = 10
POOL_SECONDS = 10
"""How long a transaction waits for one of the pool's connections."""
LIMITS = {"lock_timeout": "10s", "statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s"}
"""What one statement may take. Whoever runs into it is tried again later; nobody holds a lock for ever."""

_TRY_AGAIN = {"40001", "40P01", "55P03"}
"""SQLSTATE of serialization failure, deadlock and lock not available: the same transaction may succeed next time."""

_NOT_NOW = {"53100", "53200", "53300", "57014", "57P01", "57P02", "57P03", "57P05", "25006", "25P03", "25P04"}
"""SQLSTATE of disk full, out of memory, too many connections, statement took too long, shutting down, starting up,
idle for too long, read only."""

_DATA_EXCEPTION = "22"
"""Class of the SQLSTATEs that say: this value cannot be stored, such as a number too large or a NUL in a text."""

DATABASE_ERRORS = (SQLAlchemyError, PostgresError, DriverInterfaceError, InternalClientError, OSError, TimeoutError)
"""What a statement can raise: SQLAlchemy's errors, the driver's own, and those of the network."""

SCHEMA_NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyz_")


class Database:
    """Connections to one PostgreSQL, with `schema` as their search path.

    `dsn`: postgresql+asyncpg://user:password@host/database, or with ?host=/socket/folder.
    """

    def __init__(self, dsn: str, schema: str, pool_size: int = 10) -> None:
        if not set(schema) <= SCHEMA_NAME_CHARACTERS:
            raise ValueError(f"{schema!r} is not a schema name: use lower-case letters and underscores")
        self.schema = schema
        # Transactions queue here, first come first served, and not in the pool, which gives up after a while. One
        # connection is left for the outbox relay.
        self._turns = asyncio.Semaphore(max(pool_size - 1, 1))
        self.engine: AsyncEngine = create_async_engine(
            dsn,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=False,
            isolation_level="AUTOCOMMIT",  # transactions are the driver's, so that both ways of running share one
            connect_args={
                "timeout": CONNECT_SECONDS,
                "server_settings": {"search_path": schema, "application_name": f"openqrm-{schema}", **LIMITS},
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Begin, and commit at the end or roll back on any error.

        Raises TemporaryError when the database is away, full, or chose this transaction to break a deadlock,
        InvalidError when a value cannot be stored.
        """
        try:
            async with self._turns, self.connect() as connection, connection.driver.transaction():
                yield connection
        except DATABASE_ERRORS as error:
            if is_temporary(error):
                raise TemporaryError(
                    f"The database cannot do this right now: {first_line(error)}. It will be tried again.",
                    retry_after=0.2 if _sqlstate(error) in _TRY_AGAIN else 1.0,
                ) from error
            if (_sqlstate(error) or "").startswith(_DATA_EXCEPTION):
                # PostgreSQL's own words may quote the value, and with it what could not be stored in the first place.
                raise InvalidError(
                    "A value cannot be stored: a number is too large, or a text has a character (such as NUL) that "
                    "no text may have."
                ) from error
            raise

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """One of the pool's connections, outside of any transaction: each statement is committed by itself."""
        async with self.engine.connect() as alchemy:
            driver = (await alchemy.get_raw_connection()).driver_connection
            while driver is None or driver.is_closed():  # lost while it lay in the pool
                await alchemy.invalidate()
                driver = (await alchemy.get_raw_connection()).driver_connection
            try:
                yield Connection(alchemy, driver)
            finally:
                if driver.is_closed():
                    await alchemy.invalidate()

    async def ping(self) -> None:
        """Return if the database answers; raise TemporaryError if not."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return str(state) if state else None


def is_temporary(error: BaseException) -> bool:
    """Whether the same statement may succeed later without any change."""
    state = _sqlstate(error)
    if state in _TRY_AGAIN or state in _NOT_NOW or (state or "").startswith("08"):
        return True
    if isinstance(error, DBAPIError):
        if type(error.orig).__name__ == InvalidCachedStatementError.__name__:  # another replica has changed the tables
            return True
        return error.connection_invalidated or (isinstance(error, OperationalError | InterfaceError) and state is None)
    gone = (InvalidCachedStatementError, DriverInterfaceError, InternalClientError)
    return isinstance(error, (*gone, OSError, TimeoutError, PoolTimeout))


def is_refusal(error: BaseException) -> bool:
    """Whether PostgreSQL refuses the user, its password, its database, or what it wants to do there."""
    state = _sqlstate(error) or ""
    return state.startswith("28") or state in ("3D000", "42501")


def first_line(error: BaseException) -> str:
    """What an error says, in one line for a log."""
    words = str(getattr(error, "orig", None) or error).splitlines()
    return words[0] if words else type(error).__name__
