"""A real PostgreSQL for the tests of persistence."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.account import service_account
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.embedded.state import StateFolder
from openqrm.persistence.database import Database

sys.path.insert(0, str(Path(__file__).resolve().parent))

from persistence_tables import metadata

_numbers = count(1)


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """It runs, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="openqrm-test-", dir="/var/tmp"))
    os.chmod(folder, 0o711)  # noqa: PTH101, S103 - the account of PostgreSQL passes through
    state = StateFolder(folder / "state", await service_account(), refuse_below=0, warn_below=0)
    state.open()
    server = EmbeddedPostgres(state.postgres, "secret", SystemClock())
    await server.start()
    yield server
    await server.stop()
    state.close()
    shutil.rmtree(folder)


@pytest.fixture
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A new database of the test's own with outbox, inbox and history."""
    name = f"test_{next(_numbers)}"
    database = Database(await postgres.ensure_database(name, name, "secret"), "public", pool_size=5)
    async with database.transaction() as connection:
        await connection.run_sync(metadata.create_all)
    yield database
    await database.close()
