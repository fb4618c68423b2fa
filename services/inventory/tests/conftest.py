"""One control plane for all tests of inventory; after each of them its invariants are checked."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests"))

from support.control_plane import ControlPlane, running_control_plane
from support.invariants import broken_invariants

from openqrm.contracts.host import HostView


@pytest.fixture(scope="session")
async def running() -> AsyncIterator[ControlPlane]:
    """It runs, with one network called default on br0 and no hosts."""
    async with running_control_plane() as plane:
        yield plane


@pytest.fixture
async def plane(running: ControlPlane) -> AsyncIterator[ControlPlane]:
    """The control plane, whose books must balance afterwards."""
    yield running
    assert await broken_invariants(running) == []
    assert running.deadlocks() == []


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return request.node.name.replace("test_", "").replace("[", " ").replace("]", "")[:60]


@pytest.fixture
async def host(plane: ControlPlane, name: str) -> HostView:
    """A host of the test's own."""
    return await plane.ready_host(f"host of {name}")


@pytest.fixture
async def other(plane: ControlPlane, name: str) -> HostView:
    """Another one."""
    return await plane.ready_host(f"other of {name}")
