"""One installation for the whole run: real NATS, real PostgreSQL, every service, in a process of its own."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "e2e")]

from budget import SEED  # noqa: E402
from prey import Prey  # noqa: E402


@pytest.fixture(scope="session")
async def prey() -> AsyncIterator[Prey]:
    prey = Prey()
    try:
        await prey.start()
        yield prey
    finally:
        await prey.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how the run can be repeated."""
    terminalreporter.write_line(f"fuzz: OPENQRM_FUZZ_SEED={SEED} repeats this run")
