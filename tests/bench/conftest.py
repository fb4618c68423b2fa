"""A control plane for the benchmarks that need one."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.control_plane import ControlPlane, running_control_plane


@pytest.fixture(scope="session")
async def running() -> AsyncIterator[ControlPlane]:
    """It runs, with no hosts."""
    async with running_control_plane() as plane:
        yield plane
