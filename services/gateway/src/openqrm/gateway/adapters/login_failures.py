"""Failed logins, counted per user and address for all replicas together; after a few each further one has to wait."""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from openqrm.contracts.clock import Clock
from openqrm.gateway.adapters.tables import login_failures
from openqrm.persistence.connection import Connection
from openqrm.persistence.database import Database

FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 900.0
FORGOTTEN_SECONDS = 3600.0
ADDRESS_FACTOR = 10
"""An address may fail this many times more often than one user from it: many people sit behind one."""


class LoginFailures:
    """Counts in the database; what is older than an hour is forgotten."""

    def __init__(self, database: Database, clock: Clock, free: int) -> None:
        """`free`: how many may fail before the next one has to wait."""
        self._database = database
        self._clock = clock
        self._free = free

    async def begin(self, user: str, address: str) -> float:
        """Seconds that this user has to wait before a login from this address; 0: go on, it is counted as failed.

        Counted before it is known: attempts at the same time, at any replica, must not all pass.
        """
        now = self._clock.now()
        # In this order everywhere, so that two of them never wait for each other.
        allowed = {_key("", address): self._free * ADDRESS_FACTOR, _key(user, address): self._free}
        table = login_failures.c
        async with self._database.transaction() as connection:
            await connection.execute(delete(login_failures).where(table.last_at < _forgotten(now)))
            for key in allowed:
                known = select(table.wait_until).where(table.key == key).with_for_update()
                until = (await connection.execute(known)).scalar_one_or_none()
                if until is not None and until > now:
                    return float((until - now).total_seconds())
            for key, free in allowed.items():
                await self._count(connection, key, free, now)
        return 0.0

    async def succeeded(self, user: str, address: str) -> None:
        """Forget the user's failures; the address's stay, or one known password would free the guessing of others."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(login_failures).where(login_failures.c.key == _key(user, address)))

    async def _count(self, connection: Connection, key: bytes, free: int, now: datetime) -> None:
        table = login_failures.c
        again = case((table.last_at < _forgotten(now), 1), else_=table.count + 1)
        counted = (
            insert(login_failures)
            .values(key=key, count=1, last_at=now, wait_until=now)
            .on_conflict_do_update(index_elements=[table.key], set_={"count": again, "last_at": now})
            .returning(table.count)
        )
        count = (await connection.execute(counted)).scalar_one()
        if count >= free:
            seconds = min(FIRST_WAIT_SECONDS * 2.0 ** min(count - free, 20), LONGEST_WAIT_SECONDS)
            later = update(login_failures).where(table.key == key).values(wait_until=now + timedelta(seconds=seconds))
            await connection.execute(later)


def _forgotten(now: datetime) -> datetime:
    return now - timedelta(seconds=FORGOTTEN_SECONDS)


def _key(user: str, address: str) -> bytes:
    """A hash: what people type as a user's name is now and then a password."""
    return hashlib.sha256(f"{user}\n{address}".encode("utf-8", "replace")).digest()
