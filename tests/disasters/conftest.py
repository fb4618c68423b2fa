"""A whole control plane on a real NATS and PostgreSQL, of each module's own: these tests ruin it."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.control_plane import ControlPlane, running_control_plane


@pytest.fixture(scope="module")
async def plane() -> AsyncIterator[ControlPlane]:
    """It runs, with one network called default on br0 and no hosts."""
    async with running_control_plane() as running:
        yield running
