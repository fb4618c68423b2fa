"""Transactions: what fails is rolled back and told in our language."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from openqrm.contracts.errors import InvalidError, TemporaryError
from openqrm.persistence import database as module
from openqrm.persistence.database import Database
from openqrm.persistence.inbox import KEPT


async def execute(database, statement: str, **values) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), values)


async def make_table(database) -> None:
    await execute(database, "CREATE TABLE things (id int PRIMARY KEY, words text, data jsonb)")


async def count(database) -> int:
    async with database.transaction() as connection:
        return (await connection.execute(text("SELECT count(*) FROM things"))).scalar_one()


async def test_an_error_rolls_back(database):
    await make_table(database)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO things VALUES (1)"))
            raise ZeroDivisionError
    assert await count(database) == 0


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("INSERT INTO things VALUES (:id)", {"id": 2**40}),
        ("INSERT INTO things (id, words) VALUES (1, :words)", {"words": "a\0b"}),
        ("INSERT INTO things (id, data) VALUES (1, CAST(:data AS jsonb))", {"data": '{"a": "\\u0000"}'}),
        ("SELECT * FROM things WHERE words = :words", {"words": "\ud800"}),
    ],
)
async def test_what_cannot_be_stored_is_the_senders_mistake(database, statement, values):
    await make_table(database)
    with pytest.raises(InvalidError, match="cannot be stored") as error:
        await execute(database, statement, **values)
    assert "\0" not in error.value.message


async def test_a_broken_rule_is_left_to_the_caller(database):
    await make_table(database)
    await execute(database, "INSERT INTO things VALUES (1)")
    with pytest.raises(IntegrityError):
        await execute(database, "INSERT INTO things VALUES (1)")
    with pytest.raises(ProgrammingError):
        await execute(database, "SELECT nonsense")


async def test_a_deadlock_is_temporary_for_one_of_the_two(database):
    await make_table(database)
    await execute(database, "INSERT INTO things VALUES (1), (2)")
    met = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE things SET words = 'x' WHERE id = :id"), {"id": first})
            await met.wait()
            await connection.execute(text("UPDATE things SET words = 'x' WHERE id = :id"), {"id": second})

    results = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    (error,) = [result for result in results if result is not None]
    assert isinstance(error, TemporaryError)
    assert "deadlock" in error.message


async def test_a_statement_that_hangs_is_ended(postgres, database, monkeypatch):
    monkeypatch.setitem(module.LIMITS, "statement_timeout", "100ms")
    hasty = Database(database.engine.url.render_as_string(hide_password=False), "public", pool_size=1)
    with pytest.raises(TemporaryError, match="timeout"):
        await execute(hasty, "SELECT pg_sleep(5)")
    await hasty.close()


async def test_transactions_wait_for_their_turn_however_many_come(database):
    small = Database(database.engine.url.render_as_string(hide_password=False), "public", pool_size=2)
    async with small.transaction() as connection:
        await connection.execute(text("SELECT 1"))
        others = [asyncio.create_task(small.ping()) for _ in range(50)]
        _, waiting = await asyncio.wait(others, timeout=0.1)
        assert len(waiting) == 50
    await asyncio.gather(*others)
    await small.close()


async def test_a_pool_that_others_have_emptied_is_temporary(database, monkeypatch):
    monkeypatch.setattr(module, "POOL_SECONDS", 0.1)
    small = Database(database.engine.url.render_as_string(hide_password=False), "public", pool_size=1)
    async with small.engine.connect():
        with pytest.raises(TemporaryError, match="cannot do this right now"):
            await small.ping()
    await small.ping()
    await small.close()


async def test_a_connection_that_is_ended_in_the_middle_is_temporary(database):
    await make_table(database)
    with pytest.raises(TemporaryError):
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO things VALUES (1)"))
            me = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with database.transaction() as killer:
                await killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": me})
            await connection.execute(text("INSERT INTO things VALUES (2)"))
    assert await count(database) == 0


async def test_a_database_that_is_not_there_is_temporary():
    nowhere = Database("postgresql+asyncpg://a:b@/c?host=/nonexistent", "public")
    with pytest.raises(TemporaryError, match="cannot do this right now"):
        await nowhere.ping()


@pytest.mark.parametrize("name", ["Upper", "a b", 'a";drop', "a1"])
def test_a_schema_has_a_plain_name(name):
    with pytest.raises(ValueError, match="schema name"):
        Database("postgresql+asyncpg://a:b@/c", name)


def test_the_inbox_remembers_longer_than_anything_is_delivered():
    assert KEPT == "3 days"
