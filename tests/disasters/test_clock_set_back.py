"""The clock of a machine is set back by an hour, while services run there and before they start again."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from replicas import Replicas, quick_redelivery, replicas_of
from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts import clock as clock_module
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.message import Command
from openqrm.contracts.partition import PartitionView, PausePartition, StartPartition, UnpausePartition
from openqrm.executor_fake.world import FakeWorld

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime")

HOUR = timedelta(hours=1)
SLOW = 1.0
"""Seconds that a pause takes, so that others wait for it."""


class WallClock:
    """What the services that run on it take for the time, to be set while they run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """Set it: `-1h`, `+0`."""
        self._file.write_text(offset)

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to have this clock; what counts seconds (CLOCK_MONOTONIC) goes on as ever."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
async def replicas(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Processes, none of which runs yet."""
    async with quick_redelivery(plane):
        with replicas_of(plane, tmp_path) as made:
            yield made


async def _crash_is_seen(plane: ControlPlane, host: str, made: PartitionView) -> None:
    """A guest that ends by itself is heard of soon: what its host shows now is not taken for older than what it did."""
    seen = len(plane.events)
    plane.fake(await plane.host(host)).crash(made.id)
    await plane.event("partition.crashed", after=seen)
    await _succeed(plane, await _send(plane, StartPartition(partition=str(made.id))))


async def _send(plane: ControlPlane, *commands: Command) -> list[Command]:
    """One after the other, each accepted before the next is sent."""
    for command in commands:
        await plane.client.publish(command)
        await plane.operation(command.operation_id, "running", "queued")
    return list(commands)


async def _succeed(plane: ControlPlane, commands: list[Command]) -> None:
    for command in commands:
        ended = await plane.end_of(command.operation_id)
        assert ended.state == "succeeded", ended


@needs_faketime
@pytest.mark.parametrize("services", [("executor-fake",), ("inventory", "executor-fake")], ids=" and ".join)
async def test_set_back_by_an_hour(
    plane: ControlPlane, replicas: Replicas, tmp_path: Path, services: tuple[str, ...]
) -> None:
    clock = WallClock(tmp_path / "time")
    await plane.executor.stop()
    if "inventory" in services:
        await plane.inventory.stop()
    names = [f"{service} 1" for service in services]
    await replicas.start(*names, **clock.environment)
    try:
        plane.world = FakeWorld(plane.clock, replicas.fake_hosts)
        host = (await plane.ready_host(f"{len(services)} with clocks")).name
        name = f"{len(services)} !pause-slow={SLOW}"
        made = await plane.make(name, host=host, start=True, on_crash="stay")
        begun = await _send(plane, PausePartition(partition=name), UnpausePartition(partition=name))
        clock.set("-1h")
        begun += await _send(plane, PausePartition(partition=name), UnpausePartition(partition=name))
        await _succeed(plane, begun)
        await _crash_is_seen(plane, host, made)
        # Now they start on that clock, and nobody remembers how late it was.
        clock.set("+0")
        begun = await _send(plane, PausePartition(partition=name), UnpausePartition(partition=name))
        for each in names:
            replicas.kill(each)
        clock.set("-1h")
        await replicas.start(*names, **clock.environment)
        begun += await _send(plane, PausePartition(partition=name), UnpausePartition(partition=name))
        await _succeed(plane, begun)
        for each in names:
            replicas.kill(each)
        clock.set("-2h")
        await replicas.start(*names, **clock.environment)
        await _crash_is_seen(plane, host, made)
        assert plane.fake(await plane.host(host)).read().partitions[made.id].starts == 3
    finally:
        replicas.stop()
        if "inventory" in services:
            await plane.start_inventory()
        await plane.start_executor()
    assert await broken_invariants(plane) == []


def test_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that runs on: at half the speed until the machine has caught up, then with it."""
    wall, steady = datetime(2026, 3, 4, tzinfo=UTC), 1000.0

    class Machine(datetime):
        @classmethod
        def now(cls, _tz: object = None) -> datetime:  # type: ignore[override]
            return wall

    monkeypatch.setattr(clock_module, "datetime", Machine)
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: steady)
    clock = SystemClock()
    before = clock.now()
    wall, steady = wall - HOUR, steady + 10
    assert clock.now() == before + timedelta(seconds=5)
    wall, steady = before + timedelta(seconds=6), steady + 1
    assert clock.now() == wall
