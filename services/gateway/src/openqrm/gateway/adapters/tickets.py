"""Console tickets, in the database: whichever replica gets one takes it, and nobody can take it twice."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, insert

from openqrm.contracts.clock import Clock
from openqrm.contracts.console import ConsoleKind
from openqrm.gateway.adapters.tables import console_tickets
from openqrm.persistence.database import Database


@dataclass(frozen=True)
class Ticket:
    """The right to open one console, once."""

    user: str
    partition_id: UUID
    kind: ConsoleKind


class Tickets:
    """Gives out tickets and takes them back."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def give(self, ticket: Ticket, seconds: float) -> str:
        """Keep a ticket and return the secret that takes it."""
        secret = secrets.token_urlsafe(32)
        now = self._clock.now()
        async with self._database.transaction() as connection:
            await connection.execute(delete(console_tickets).where(console_tickets.c.expires_at < now))
            await connection.execute(
                insert(console_tickets).values(
                    secret_hash=_hash(secret),
                    user_name=ticket.user,
                    partition_id=ticket.partition_id,
                    kind=ticket.kind.value,
                    expires_at=now + timedelta(seconds=seconds),
                )
            )
        return secret

    async def take(self, secret: str) -> Ticket | None:
        """Use a ticket up; None when it is not one, was used, or is too old."""
        query = delete(console_tickets).where(console_tickets.c.secret_hash == _hash(secret)).returning(console_tickets)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.expires_at <= self._clock.now():
            return None
        return Ticket(row.user_name, row.partition_id, ConsoleKind(row.kind))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
