"""Transactional outbox: what is to be published is committed with the change that it tells of, and published after.

One relay per schema is at work at a time, held by a PostgreSQL advisory lock. Messages with the same key are
published in the order in which they were written; a message may be published twice when the relay dies in between,
and is recognised by its Nats-Msg-Id.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

import structlog
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import PermanentError, TemporaryError
from openqrm.persistence.connection import Connection, Statement
from openqrm.persistence.database import DATABASE_ERRORS, Database, first_line
from openqrm.telemetry import metrics

BATCH = 500
POLL_SECONDS = 0.5
"""How soon another replica's messages are seen; one's own are published at once."""
RETRY_SECONDS = 1.0


class Publisher(Protocol):
    """Where the relay publishes to: the bus."""

    async def publish_kept(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        """Publish to a stream and return the sequence.

        Raises TemporaryError when it cannot be now, PermanentError when it never can.
        """

    async def publish_together(self, messages: Sequence[tuple[str, dict[str, str], bytes]]) -> list[int] | None:
        """Publish messages of one stream, all or none, and return their sequences.

        None when these have to be published one by one. Raises TemporaryError when it cannot be now.
        """


@dataclass(frozen=True)
class Outgoing:
    """One message to be published."""

    key: str
    subject: str
    headers: dict[str, str]
    body: bytes
    history: bool
    """Whether it also goes to the events table: the facts, not the routed commands."""


def outbox_table(metadata: MetaData) -> Table:
    """The outbox table of a schema."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("key", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("history", Boolean, nullable=False),
    )


def events_table(metadata: MetaData) -> Table:
    """The history of published events of a schema."""
    return Table(
        "events",
        metadata,
        Column("sequence", BigInteger, primary_key=True),
        Column("subject", Text, nullable=False),
        Column("key", Text, nullable=False, index=True),
        Column("headers", JSONB, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("published_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
    )


def outbox_values(messages: Sequence[Outgoing]) -> dict[str, Any]:
    """Messages as the parameters of `WRITE`."""
    return {
        "keys": [m.key for m in messages],
        "subjects": [m.subject for m in messages],
        "headers": [json.dumps(m.headers) for m in messages],
        "bodies": [m.body for m in messages],
        "histories": [m.history for m in messages],
    }


WRITE = Statement(
    text(
        "INSERT INTO outbox (key, subject, headers, body, history) "
        "SELECT m.key, m.subject, CAST(m.headers AS jsonb), m.body, m.history "
        "FROM unnest(CAST(:keys AS text[]), CAST(:subjects AS text[]), CAST(:headers AS text[]), "
        "CAST(:bodies AS bytea[]), CAST(:histories AS boolean[])) "
        "WITH ORDINALITY AS m(key, subject, headers, body, history, place) ORDER BY m.place"
    )
)
"""Adds messages, in their order."""

_LIST = Statement(text("SELECT id, key, subject, headers, body, history FROM outbox ORDER BY id LIMIT :batch"))
_DONE = Statement(
    text(
        "WITH done AS (DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[])) "
        "RETURNING id, subject, key, headers, body, history) "
        "INSERT INTO events (sequence, subject, key, headers, body) "
        "SELECT s.sequence, done.subject, done.key, done.headers, done.body "
        "FROM (SELECT set_config('synchronous_commit', 'off', true)) AS hasty CROSS JOIN done "
        "JOIN unnest(CAST(:published AS bigint[]), CAST(:sequences AS bigint[])) AS s(id, sequence) ON s.id = done.id "
        "WHERE done.history ON CONFLICT (sequence) DO NOTHING"
    )
)
"""It does not wait for the disk: what a power cut forgets is published once more, and recognised by its id."""
_TRY_LOCK = Statement(text("SELECT pg_try_advisory_lock(:key)"))
_UNLOCK = Statement(text("SELECT pg_advisory_unlock(:key)"))


async def forget_history(connection: Connection, days: int, most: int) -> None:
    """Drop events from the history that are older than so many days, or beyond the newest `most`."""
    await connection.execute(
        text("DELETE FROM events WHERE published_at < now() - make_interval(days => :days)"), {"days": days}
    )
    # By sequence, not by counting: other streams' gaps make this keep a little less, never more.
    await connection.execute(
        text("DELETE FROM events WHERE sequence <= (SELECT max(sequence) FROM events) - :most"), {"most": most}
    )


class OutboxRelay:
    """Publishes what transactions left in the outbox."""

    def __init__(self, database: Database, publisher: Publisher, clock: Clock, service: str) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._service = service
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._log = structlog.get_logger(service=service)

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name=f"outbox {self._database.schema}")

    async def stop(self) -> None:
        """Stop; what is left is published after the next start."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._hold_lock_and_publish()
            except Exception as error:  # noqa: BLE001 - whatever it is, the outbox may not stay full for ever
                self._note_trouble(error)
                await self._clock.sleep(RETRY_SECONDS)

    def _note_trouble(self, error: Exception) -> None:
        reason = first_line(error)
        if reason == self._trouble:
            return  # told already
        self._trouble = reason
        if isinstance(error, (*DATABASE_ERRORS, TemporaryError)):
            self._log.warning("the outbox waits", reason=reason)
        else:
            self._log.error("the outbox failed; it is begun anew", exc_info=error)

    async def _hold_lock_and_publish(self) -> None:
        key = crc32(f"outbox {self._database.schema}".encode())
        async with self._database.connect() as connection:
            while not await connection.value(_TRY_LOCK, key=key):
                await self._clock.sleep(POLL_SECONDS)
            try:
                while True:
                    self._wake.clear()
                    if not await self._publish_batch(connection):
                        # not wait_for: that of Python 3.11 swallows a cancellation when it is woken at the same moment
                        with suppress(TimeoutError):
                            async with asyncio.timeout(POLL_SECONDS):
                                await self._wake.wait()
            finally:
                with suppress(*DATABASE_ERRORS):
                    await connection.value(_UNLOCK, key=key)

    async def _publish_batch(self, connection: Connection) -> bool:
        """Publish the oldest messages; False when there are none. Raises the first error after recording the rest."""
        rows = await connection.all(_LIST, batch=BATCH)
        metrics.OUTBOX_PENDING.labels(self._service).set(len(rows))
        if not rows:
            return False
        published: dict[int, int] = {}
        hopeless: list[int] = []
        # What others are to do, and what is told to all: two kinds of streams.
        kinds = ([row for row in rows if row["history"]], [row for row in rows if not row["history"]])
        results = await asyncio.gather(
            self._publish_facts(kinds[0], published, hopeless),
            self._publish_each(kinds[1], published, hopeless),
            return_exceptions=True,
        )
        if published or hopeless:
            await connection.change(
                _DONE,
                ids=[*published, *hopeless],
                published=list(published),
                sequences=list(published.values()),
            )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if self._trouble is not None:
            self._trouble = None
            self._log.info("the outbox is published again")
        return True

    async def _publish_facts(self, rows: list[Any], published: dict[int, int], hopeless: list[int]) -> None:
        """Publish facts together, or one by one where that cannot be."""
        if not rows:
            return
        messages = [(row["subject"], row["headers"], row["body"]) for row in rows]
        sequences = await self._publisher.publish_together(messages)
        if sequences is None:
            await self._publish_each(rows, published, hopeless)
        else:
            published.update(zip((row["id"] for row in rows), sequences, strict=True))

    async def _publish_each(self, rows: list[Any], published: dict[int, int], hopeless: list[int]) -> None:
        """Publish one by one, those with the same key in their order. Raises the first error after trying the rest."""
        by_key: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_key[row["key"]].append(row)

        async def publish_in_order(messages: list[Any]) -> None:
            for row in messages:
                try:
                    published[row["id"]] = await self._publisher.publish_kept(
                        row["subject"], row["headers"], row["body"]
                    )
                except PermanentError as error:
                    # To keep it would hold back everything after it, for ever.
                    self._log.error(
                        "a message can never be published and is dropped",
                        subject=row["subject"],
                        message_id=row["headers"].get("ce-id"),
                        bytes=len(row["body"]),
                        reason=error.message,
                    )
                    hopeless.append(row["id"])

        results = await asyncio.gather(*map(publish_in_order, by_key.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
