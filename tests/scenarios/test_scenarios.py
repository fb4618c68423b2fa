"""Plays every scenario and compares what was told with what is expected."""

import asyncio
import difflib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from language import Line, Stage
from sqlalchemy import text
from support.control_plane import ControlPlane, running_control_plane
from support.invariants import broken_invariants
from telling import log_of

from openqrm.contracts.network import NetworkEvent
from openqrm.contracts.operation import OperationEvent

SCENARIOS = sorted(path.parent for path in Path(__file__).parent.glob("*/commands"))
QUIET_SECONDS = 0.4
"""Nothing was told for this long, and nothing is at work: the step is over."""

_AT_WORK = text(
    "SELECT (SELECT count(*) FROM operations WHERE state IN ('queued', 'running')) + (SELECT count(*) FROM outbox)"
)


async def _settle(plane: ControlPlane) -> None:
    """Wait until nothing goes on any more."""
    database = plane.inventory.inventory.database
    async with asyncio.timeout(60):
        seen = -1
        while True:
            async with database.transaction() as connection:
                at_work = (await connection.execute(_AT_WORK)).scalar_one()
            if at_work == 0 and len(plane.events) == seen:
                return
            seen = len(plane.events)
            await plane.clock.sleep(QUIET_SECONDS)


async def _play(commands: list[str]) -> list[str]:
    log = []
    async with running_control_plane() as plane:
        stage = Stage(plane)
        told = len(plane.events)
        for command in commands:
            line = Line.parse(command)
            await stage.play(line)
            if line.in_background:
                log.append(f"> {command}")
                continue
            await _settle(plane)
            events = [event for event in plane.events[told:] if not _is_scenery(event[1])]
            told = len(plane.events)
            log += [f"> {command}", *(f"    {fact}" for fact in log_of(events))]
        assert await broken_invariants(plane) == []
        assert plane.world.running_twice() == {}
    return log


def _is_scenery(event: object) -> bool:
    network = isinstance(event, OperationEvent) and event.operation.verb.startswith("network.")
    return network or isinstance(event, NetworkEvent)


def _commands(folder: Path) -> list[str]:
    lines = (folder / "commands").read_text("utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
async def test_scenario(folder: Path) -> None:
    assert (folder / "README.md").exists(), f"{folder.name} does not say what it shows: write its README.md"
    log = await _play(_commands(folder))
    expected = folder / "log.expect"
    if not expected.exists():
        expected.write_text("\n".join(log) + "\n", "utf-8")
        pytest.fail(f"{expected} was not there and is recorded now: read it, and commit it if it is right")
    wanted = expected.read_text("utf-8").splitlines()
    difference = "\n".join(difflib.unified_diff(wanted, log, "expected", "told", lineterm=""))
    assert not difference, difference
