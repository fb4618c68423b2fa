"""Folders and helpers for tests with a real PostgreSQL and a real NATS."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openqrm.contracts.clock import SystemClock


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder that the service account can reach (pytest's own is closed to other users)."""
    folder = Path(tempfile.mkdtemp(prefix="openqrm-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()
