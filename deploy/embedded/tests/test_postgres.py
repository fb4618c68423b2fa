"""The embedded PostgreSQL, for real."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.errors import StartError
from openqrm.embedded.postgres import EmbeddedPostgres, programs_of_the_wheel

PASSWORD = "correct-horse"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    engine = create_async_engine(dsn)
    try:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


async def test_data_survives_a_restart(place: Path, clock: SystemClock) -> None:
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await postgres.start()
    try:
        dsn = await postgres.ensure_database("inventory", "inventory", "pass/w@rd'")
        assert await postgres.ensure_database("inventory", "inventory", "pass/w@rd'") == dsn, "twice is harmless"
        await query(dsn, "create table t (x int)")
        await query(dsn, "insert into t values (42)")
        await postgres.stop()
        begin = clock.monotonic()
        await postgres.start()
        assert clock.monotonic() - begin < 3
        assert await query(dsn, "select x, lower('Ä') from t") == [(42, "ä")]
        assert await query(postgres.dsn(), "show listen_addresses") == [("",)]
        assert await query(postgres.dsn(), "show synchronous_commit") == [("on",)]
    finally:
        await postgres.stop()


async def test_nobody_gets_in_without_the_right_password(place: Path, clock: SystemClock) -> None:
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await postgres.start()
    try:
        await postgres.ensure_database("one", "one", "1")
        await postgres.ensure_database("two", "two", "2")
        host = str(postgres.socket_folder)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(host=host, user="postgres", password="wrong", database="postgres")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(host=host, user="one", password="1", database="two")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(host=host, user="one", password="1", database="postgres")
    finally:
        await postgres.stop()


def connecting_as_nobody(path: Path) -> str:
    """What the user nobody is told when it connects to a socket."""
    program = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    return subprocess.run([*nobody, "/usr/bin/python3", "-c", program], capture_output=True, text=True).stderr


@needs_root
async def test_another_user_of_the_machine_does_not_reach_the_socket(place: Path, clock: SystemClock) -> None:
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await postgres.start()
    try:
        assert postgres.pid is not None
        assert psutil.Process(postgres.pid).username() == "openqrm"
        assert "PermissionError" in connecting_as_nobody(postgres.socket_folder / ".s.PGSQL.5432")
    finally:
        await postgres.stop()


async def test_a_long_state_folder_gets_its_socket_elsewhere(place: Path, clock: SystemClock) -> None:
    folder = place / ("x" * 120)
    folder.mkdir(mode=0o711)
    postgres = EmbeddedPostgres(folder / "pg", PASSWORD, clock)
    await postgres.start()
    try:
        elsewhere = postgres.socket_folder
        assert not elsewhere.is_relative_to(place)
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert await query(postgres.dsn(), "select 1") == [(1,)]
        await postgres.stop()
        await postgres.start()
        assert postgres.socket_folder == elsewhere, "recorded"
        await postgres.stop()
        elsewhere.chmod(0o755)  # as if somebody else had made it
        await postgres.start()
        assert postgres.socket_folder != elsewhere
    finally:
        await postgres.stop()
        for leftover in {elsewhere, postgres.socket_folder}:
            for entry in leftover.iterdir():
                entry.unlink()
            leftover.rmdir()


KILLED = """
import asyncio, sys
from pathlib import Path
from openqrm.contracts.clock import SystemClock
from openqrm.embedded.postgres import EmbeddedPostgres

async def main() -> None:
    postgres = EmbeddedPostgres(Path(sys.argv[1]), sys.argv[2], SystemClock())
    await postgres.start()
    print(postgres.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def start_and_kill(folder: Path) -> int:
    """Start PostgreSQL in another process, kill that one, return the process id that PostgreSQL had."""
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), PASSWORD], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        return int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.communicate()


async def test_a_kill_of_the_parent_ends_the_server_and_keeps_the_data(place: Path, clock: SystemClock) -> None:
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    pid = start_and_kill(place / "pg")
    # at once: the old server may still be shutting down
    await postgres.start()
    try:
        assert postgres.pid != pid
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert await query(postgres.dsn(), "select 1") == [(1,)]
    finally:
        await postgres.stop()


async def test_a_server_that_is_left_over_is_replaced(place: Path, clock: SystemClock) -> None:
    deaths: list[str] = []
    first = EmbeddedPostgres(place / "pg", PASSWORD, clock, on_death=deaths.append)
    second = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await first.start()
    try:
        await second.start()
        assert await query(second.dsn(), "select 1") == [(1,)]
        assert len(deaths) == 1
    finally:
        await first.stop()
        await second.stop()


async def test_a_crash_of_the_server_is_recovered_from(place: Path, clock: SystemClock) -> None:
    told = asyncio.Event()
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock, on_death=lambda _: told.set())
    await postgres.start()
    try:
        await query(postgres.dsn(), "create table t as select 7 as x")
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGKILL)
        await asyncio.wait_for(told.wait(), 5)
        await postgres.stop()
        await postgres.start()
        assert await query(postgres.dsn(), "select x from t") == [(7,)]
    finally:
        await postgres.stop()


async def test_secrets_of_another_installation(place: Path, clock: SystemClock) -> None:
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await postgres.start()
    await postgres.stop()
    with pytest.raises(StartError, match=r"does not accept its password: secrets\.json and the database"):
        await EmbeddedPostgres(place / "pg", "other", clock).start()


async def test_a_damaged_data_folder(place: Path, clock: SystemClock) -> None:
    data = place / "pg" / "data"
    data.mkdir(parents=True)
    (data / "base").mkdir()
    with pytest.raises(StartError, match=r"is damaged .* restore it from a backup"):
        await EmbeddedPostgres(place / "pg", PASSWORD, clock).start()
    (data / "PG_VERSION").write_text("99\n")
    with pytest.raises(StartError, match=rf"is of PostgreSQL 99; this openQRM brings .*{max(programs_of_the_wheel())}"):
        await EmbeddedPostgres(place / "pg", PASSWORD, clock).start()


async def test_half_of_an_earlier_initialisation_is_thrown_away(place: Path, clock: SystemClock) -> None:
    half = place / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock)
    await postgres.start()
    await postgres.stop()
    assert not half.exists()


@pytest.fixture(params=["1m", "24m"])
def small_disk(place: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param},mode=711", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@needs_root
async def test_a_full_disk_is_called_so(small_disk: Path, clock: SystemClock) -> None:
    with pytest.raises(StartError, match="No space left on device"):
        await EmbeddedPostgres(small_disk / "pg", PASSWORD, clock).start()


@needs_root
async def test_the_programs_are_copied_where_the_account_can_read_them(place: Path, clock: SystemClock) -> None:
    cache = place / "cache"
    postgres = EmbeddedPostgres(place / "pg", PASSWORD, clock, cache=cache)
    await postgres.start()
    await postgres.stop()
    (copy,) = cache.iterdir()
    (program,) = copy.glob("*/*/bin/postgres")
    program.write_bytes(b"")  # a copy that broke is made anew
    await postgres.start()
    await postgres.stop()
    assert [entry.name for entry in cache.iterdir()] == [copy.name]


async def test_names_are_not_sql(place: Path, clock: SystemClock) -> None:
    with pytest.raises(ValueError, match="not a plain"):
        await EmbeddedPostgres(place / "pg", PASSWORD, clock).ensure_database('a"; drop', "a", "a")
