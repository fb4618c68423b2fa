"""Two inventories and three schedulers at once, one of each killed in the middle: every effect exactly once."""

import asyncio
from collections import Counter
from pathlib import Path
from uuid import UUID

from replicas import Replicas, quick_redelivery, replicas_of
from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts.message import Command
from openqrm.contracts.operation import OperationAccepted, OperationView
from openqrm.contracts.partition import CreatePartition, MigratePartition, NicSpec, PartitionEvent, PausePartition

PARTITIONS = 100
OTHERS = 100
"""Commands on them afterwards."""


async def _in_the_middle(plane: ControlPlane, operation_ids: list[UUID], share: float) -> None:
    """Await that so many of them have ended."""

    async def so_far() -> bool:
        return len(_ends(plane, operation_ids)) >= share * len(operation_ids)

    await plane.until(so_far)


def _ends(plane: ControlPlane, operation_ids: list[UUID]) -> list[OperationView]:
    wanted = set(operation_ids)
    return [
        event.operation
        for subject, event in plane.events
        if subject in ("operation.succeeded", "operation.failed", "operation.rejected", "operation.cancelled")
        and event.operation.id in wanted
    ]


async def _send(plane: ControlPlane, commands: list[Command], replicas: Replicas, *killed: str) -> None:
    """Send all; when some have been carried out, kill; then each must have ended once, and well."""
    ids = [command.operation_id for command in commands]
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    await _in_the_middle(plane, ids, 0.3)
    assert len(_ends(plane, ids)) < len(ids), "it is the middle"
    for name in killed:
        replicas.kill(name)
    ended = [await plane.end_of(operation_id) for operation_id in ids]
    assert Counter(o.state for o in ended) == {"succeeded": len(ids)}, [o.error for o in ended if o.error]
    assert len(_ends(plane, ids)) == len(ids), "each has one end"
    accepted = Counter(e.operation.id for _, e in plane.events if isinstance(e, OperationAccepted))
    assert {accepted[operation_id] for operation_id in ids} == {1}


async def test_two_inventories_and_three_schedulers(plane: ControlPlane, tmp_path: Path) -> None:
    hosts = [await plane.ready_host(f"r{number}", "cpus=512&memory_mib=262144") for number in range(3)]
    await plane.inventory.stop()
    await plane.scheduler.stop()
    async with quick_redelivery(plane):
        with replicas_of(plane, tmp_path) as replicas:
            await replicas.start("inventory 1", "inventory 2", "scheduler 1", "scheduler 2", "scheduler 3")
            nics = (NicSpec(network="default"),)
            names = [f"one of many {number}" for number in range(PARTITIONS)]
            creations = [
                CreatePartition(name=name, technology="fake", memory_mib=64, nics=nics, start=True) for name in names
            ]
            await _send(plane, list(creations), replicas, "inventory 1", "scheduler 1")
            await replicas.start("inventory 3")
            others: list[Command] = [PausePartition(partition=name) for name in names[: OTHERS // 2]]
            others += [MigratePartition(partition=name) for name in names[OTHERS // 2 :]]
            await _send(plane, others, replicas, "inventory 2", "scheduler 2")
    await plane.start_inventory()
    await plane.start_scheduler()
    told = Counter((subject, e.partition.id) for subject, e in plane.events if isinstance(e, PartitionEvent))
    for subject in ("partition.created", "partition.started"):
        assert [told[subject, creation.partition_id] for creation in creations] == [1] * PARTITIONS
    found = [partition for host in hosts for partition in plane.fake(host).read().partitions.values()]
    assert Counter(partition.name for partition in found) == Counter(names), "each is on one host"
    assert {partition.starts for partition in found} == {1}, "started once, by whomever"
    macs = [nic.mac for partition in found for nic in partition.nics]
    assert len(set(macs)) == PARTITIONS
    assert await broken_invariants(plane) == []
    assert plane.deadlocks() == []
