"""The relay: everything that was committed is published, in order per key, whatever dies in between."""

import asyncio
from collections import defaultdict

import pytest
from persistence_tables import events, inbox, outbox
from sqlalchemy import func, select, text

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.errors import InvalidError, TemporaryError
from openqrm.persistence import outbox as module
from openqrm.persistence.inbox import NOTE, forget_old
from openqrm.persistence.outbox import WRITE, OutboxRelay, Outgoing, forget_history, outbox_values


class Stream:
    """A publisher that keeps what it gets, and drops what came before, as NATS does."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.sequences: dict[str, int] = {}
        self.away = False
        self.hopeless: set[str] = set()
        self.published = 0
        self.takes_batches = True
        self.batches = 0

    async def publish_kept(self, subject, headers, body) -> int:
        await asyncio.sleep(0)  # noqa: TID251 - others may run
        self.published += 1
        if self.away:
            raise TemporaryError("nobody is there")
        if body.decode() in self.hopeless:
            raise InvalidError("too large")
        identity = headers["Nats-Msg-Id"]
        if identity not in self.sequences:
            self.kept.append((subject, body.decode()))
            self.sequences[identity] = len(self.kept)
        return self.sequences[identity]

    async def publish_together(self, messages) -> list[int] | None:
        if self.away:
            raise TemporaryError("nobody is there")
        names = [headers["Nats-Msg-Id"] for _, headers, _ in messages]
        if not self.takes_batches or self.hopeless or self.sequences.keys() & names:
            return None
        self.batches += 1
        return [await self.publish_kept(*message) for message in messages]

    def by_key(self) -> dict[str, list[int]]:
        found = defaultdict(list)
        for _, body in self.kept:
            key, number = body.split()
            found[key].append(int(number))
        return found


def message(key: str, number: int, history: bool = True) -> Outgoing:
    return Outgoing(key, "thing.happened", {"Nats-Msg-Id": f"{key}-{number}"}, f"{key} {number}".encode(), history)


async def write(database, *messages: Outgoing) -> None:
    async with database.transaction() as connection:
        await connection.change(WRITE, **outbox_values(messages))


async def left(database) -> int:
    async with database.transaction() as connection:
        return (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()


async def until_empty(database) -> None:
    async with asyncio.timeout(10):
        while await left(database):
            await SystemClock().sleep(0.02)


@pytest.fixture
async def stream(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    return Stream()


def relay_of(database, stream) -> OutboxRelay:
    return OutboxRelay(database, stream, SystemClock(), "test")


async def test_in_order_per_key_and_into_the_history(database, stream):
    relay = relay_of(database, stream)
    relay.start()
    for number in range(50):
        await write(database, *(message(key, number, history=key != "b") for key in "abc"))
        relay.wake()
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {key: list(range(50)) for key in "abc"}
    async with database.transaction() as connection:
        rows = (await connection.execute(select(events.c.key, events.c.sequence, events.c.body))).all()
    assert {row.key for row in rows} == {"a", "c"}
    assert len(rows) == 100
    assert all(stream.kept[row.sequence - 1][1] == row.body.decode() for row in rows)
    assert stream.batches


async def test_in_order_where_there_are_no_batches(database, stream):
    stream.takes_batches = False
    relay = relay_of(database, stream)
    relay.start()
    for number in range(20):
        await write(database, *(message(key, number) for key in "abc"))
        relay.wake()
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {key: list(range(20)) for key in "abc"}


async def test_what_was_rolled_back_is_not_published(database, stream):
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.change(WRITE, **outbox_values([message("a", 1)]))
            raise ZeroDivisionError
    relay = relay_of(database, stream)
    relay.start()
    await write(database, message("a", 2))
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {"a": [2]}


async def test_two_relays_take_turns_and_one_takes_over(database, stream):
    first, second = relay_of(database, stream), relay_of(database, stream)
    first.start()
    second.start()
    for number in range(20):
        await write(database, message("a", number))
        if number == 10:
            await first.stop()
    await until_empty(database)
    await second.stop()
    assert stream.by_key() == {"a": list(range(20))}


async def test_nothing_is_lost_while_the_bus_is_away(database, stream):
    relay = relay_of(database, stream)
    relay.start()
    stream.away = True
    for number in range(20):
        await write(database, message("a", number))
    await SystemClock().sleep(0.3)
    assert await left(database) == 20
    stream.away = False
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {"a": list(range(20))}


async def test_nothing_is_lost_when_its_connection_dies(database, stream):
    relay = relay_of(database, stream)
    relay.start()
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for number in range(60):
        await write(database, message("a", number))
        if number % 20 == 10:
            async with database.transaction() as connection:
                await connection.execute(kill)
            await database.engine.dispose()
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {"a": list(range(60))}


async def test_what_can_never_be_published_does_not_hold_back_the_rest(database, stream):
    stream.hopeless = {"a 1", "b 0"}
    await write(database, message("a", 0), message("a", 1), message("b", 0), message("a", 2))
    relay = relay_of(database, stream)
    relay.start()
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {"a": [0, 2]}


async def test_a_publisher_that_breaks_does_not_end_the_relay(database, stream, monkeypatch):
    relay = relay_of(database, stream)
    broken = True

    async def breaks(subject, headers, body) -> int:
        if broken:
            raise ZeroDivisionError
        return await Stream.publish_kept(stream, subject, headers, body)

    monkeypatch.setattr(stream, "publish_kept", breaks)
    relay.start()
    await write(database, message("a", 0))
    await SystemClock().sleep(0.3)
    broken = False
    await until_empty(database)
    await relay.stop()
    assert stream.by_key() == {"a": [0]}


async def test_the_history_is_bounded(database, stream):
    relay = relay_of(database, stream)
    relay.start()
    await write(database, *(message("a", number) for number in range(30)))
    await until_empty(database)
    await relay.stop()
    async with database.transaction() as connection:
        await forget_history(connection, days=1, most=10)
        kept = (await connection.execute(select(events.c.sequence).order_by(events.c.sequence))).scalars()
        assert list(kept) == list(range(21, 31))
        await connection.execute(text("UPDATE events SET published_at = now() - interval '2 days' WHERE sequence < 25"))
        await forget_history(connection, days=1, most=10)
        assert (await connection.execute(select(func.min(events.c.sequence)))).scalar_one() == 25


async def test_the_inbox_knows_what_was_handled(database):
    async with database.transaction() as connection:
        assert await connection.change(NOTE, message_id="m") == 1
    async with database.transaction() as connection:
        assert await connection.change(NOTE, message_id="m") == 0
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            assert await connection.change(NOTE, message_id="n") == 1
            raise ZeroDivisionError
    async with database.transaction() as connection:
        assert await connection.change(NOTE, message_id="n") == 1, "what was rolled back was not handled"
        await connection.execute(text("UPDATE inbox SET handled_at = now() - interval '4 days' WHERE message_id = 'm'"))
        await forget_old(connection, inbox)
        assert await connection.change(NOTE, message_id="m") == 1
