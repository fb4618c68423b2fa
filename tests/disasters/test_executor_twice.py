"""Two executors for the same hosts: each order is carried out once, and what one of them cannot see harms nobody."""

import asyncio
from collections import Counter
from pathlib import Path

from replicas import quick_redelivery, replicas_of
from support.control_plane import QUICK_EXECUTOR, ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts.host import HostEvent
from openqrm.contracts.message import Command
from openqrm.contracts.partition import (
    CreatePartition,
    MigratePartition,
    PartitionEvent,
    PausePartition,
    UnpausePartition,
)
from openqrm.driver.executor import ExecutorService
from openqrm.driver.manifest import load_manifest
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.world import FakeWorld

PARTITIONS = 30
SLOW = 0.2
"""Seconds that each verb takes, so that there is a middle."""


async def _ended(plane: ControlPlane, commands: list[Command], share: float) -> None:
    """Await that so many of them have ended."""
    ids = {command.operation_id for command in commands}

    async def so_far() -> bool:
        ended = {e.operation.id for name, e in plane.events if name == "operation.succeeded" and e.operation.id in ids}
        return len(ended) >= share * len(ids)

    await plane.until(so_far)


async def _all_well(plane: ControlPlane, commands: list[Command]) -> None:
    ended = [await plane.end_of(command.operation_id) for command in commands]
    assert Counter(operation.state for operation in ended) == {"succeeded": len(commands)}, ended


async def test_one_is_killed_and_one_stands_still_for_a_while(plane: ControlPlane, tmp_path: Path) -> None:
    await plane.executor.stop()
    async with quick_redelivery(plane):
        with replicas_of(plane, tmp_path) as replicas:
            await replicas.start("executor-fake 1", "executor-fake 2")
            plane.world = FakeWorld(plane.clock, replicas.fake_hosts)
            hosts = [await plane.ready_host(f"x{number}", "cpus=512&memory_mib=262144") for number in range(2)]
            names = [f"x {number} !start-slow={SLOW} !migrate-slow={SLOW}" for number in range(PARTITIONS)]
            creations: list[Command] = [
                CreatePartition(name=name, technology="fake", memory_mib=64, start=True) for name in names
            ]
            await asyncio.gather(*(plane.client.publish(command) for command in creations))
            await _ended(plane, creations, 0.2)
            replicas.kill("executor-fake 1")
            await _all_well(plane, creations)
            await plane.start_executor()  # another one
            moves: list[Command] = [MigratePartition(partition=name) for name in names]
            await asyncio.gather(*(plane.client.publish(command) for command in moves))
            await _ended(plane, moves, 0.2)
            replicas.freeze("executor-fake 2")
            await _all_well(plane, moves)
            replicas.thaw("executor-fake 2")  # and now it would go on with what others have done
            again: list[Command] = [MigratePartition(partition=name) for name in names[:5]]
            await asyncio.gather(*(plane.client.publish(command) for command in again))
            await _all_well(plane, again)
    found = [partition for host in hosts for partition in plane.fake(host).read().partitions.values()]
    assert Counter(partition.name for partition in found) == Counter(names), "each is on one host"
    assert {partition.starts for partition in found} == {1}, "started once, by whomever"
    assert await broken_invariants(plane) == []


PATIENT = QUICK_EXECUTOR.model_copy(update={"unreachable_limit": 20.0})
"""An order is given to either; outside of these tests one that cannot carry it out hands it back for a minute."""


def _executor(plane: ControlPlane, world: FakeWorld) -> ExecutorService:
    manifest = load_manifest("openqrm.executor_fake")
    return ExecutorService(FakeDriver(world, plane.clock), manifest, plane.bus("executor-fake"), plane.clock, PATIENT)


async def test_a_host_that_only_one_of_them_reaches(plane: ControlPlane, tmp_path: Path) -> None:
    """It is in doubt for a moment at the most, since the other one sees it; and nothing is told without end."""
    await plane.executor.stop()
    plane.world, other_world = FakeWorld(plane.clock, tmp_path), FakeWorld(plane.clock, tmp_path)
    plane.executor, other = _executor(plane, plane.world), _executor(plane, other_world)
    await plane.executor.start()
    await other.start()
    try:
        host = await plane.ready_host("seen by one")
        made = await plane.make("on it", host="seen by one", start=True)

        async def both_see_it() -> bool:
            supervisors = [executor.hosts.get(host.id) for executor in (plane.executor, other)]
            return all(supervisor is not None and supervisor.is_connected for supervisor in supervisors)

        await plane.until(both_see_it)
        seen = len(plane.events)
        plane.fake(host).lose()
        await plane.event("host.lost", after=seen)
        await plane.event("host.returned", after=seen)

        async def is_known_again() -> bool:
            return (await plane.partition("on it")).state == "running"

        await plane.until(is_known_again)
        for verb in (PausePartition, UnpausePartition) * 3:
            assert (await plane.run(verb(partition="on it"))).state == "succeeded", verb
        plane.fake(host).find()
        await plane.until(both_see_it)
        assert (await plane.host("seen by one")).state == "ready"
        told = [name for name, e in plane.events[seen:] if isinstance(e, PartitionEvent) and e.partition.id == made.id]
        lost = [name for name, e in plane.events[seen:] if isinstance(e, HostEvent) and e.host.id == host.id]
        assert told.count("partition.paused") == told.count("partition.unpaused") == 3
        assert len(told) < 30, Counter(told)
        assert len(lost) < 10, Counter(lost)
        assert next(iter(plane.fake(host).read().partitions.values())).starts == 1
    finally:
        await other.stop()
