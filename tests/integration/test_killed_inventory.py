"""Inventory killed with -9 in the middle of its work: another process goes on with it, and nothing is done twice."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from contextlib import suppress

from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.message import INVENTORY
from openqrm.contracts.network import ListNetworks
from openqrm.contracts.operation import OperationAccepted
from openqrm.contracts.partition import CreatePartition, DeletePartition, MigratePartition

PARTITIONS = 30


async def _start(plane: ControlPlane) -> Process:
    """Inventory as a process of its own; returns when it answers."""
    environment = os.environ | {
        "OPENQRM_INVENTORY_DSN": plane.dsn,
        "OPENQRM_INVENTORY_SWEEP_SECONDS": "0.5",
        "OPENQRM_INVENTORY_STUCK_SECONDS": "1",
        "OPENQRM_NATS_URL": plane.nats.url,
        "OPENQRM_NATS_USER": INVENTORY,
        "OPENQRM_NATS_PASSWORD": plane.passwords[INVENTORY],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openqrm.inventory", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, "it ended"
            with suppress(TemporaryError):
                await plane.ask(ListNetworks())
                return process
            await plane.clock.sleep(0.1)


async def _kill(process: Process) -> None:
    process.kill()
    await process.wait()


async def test_inventory_killed_again_and_again(plane: ControlPlane) -> None:
    await plane.ready_host("k1", "cpus=64&memory_mib=262144")
    await plane.ready_host("k2", "cpus=64&memory_mib=262144")
    await plane.inventory.stop()
    names = [f"killed {number}" for number in range(PARTITIONS)]
    commands = [CreatePartition(name=name, technology="fake", memory_mib=64, start=True) for name in names]
    commands += [MigratePartition(partition=name) for name in names]
    commands += [DeletePartition(partition=name, force=True) for name in names[::2]]
    process = await _start(plane)
    try:
        for number, command in enumerate(commands):
            await plane.client.publish(command)
            if number % 25 == 24:
                await plane.clock.sleep(0.2)
                await _kill(process)
                process = await _start(plane)
        ended = [await plane.end_of(command.operation_id) for command in commands]
    finally:
        await _kill(process)
        await plane.start_inventory()
    # What came before its partition was made is refused, and what was killed is carried out: nothing hangs.
    assert {operation.state for operation in ended[:PARTITIONS]} == {"succeeded"}
    accepted = [event.operation.id for _, event in plane.events if isinstance(event, OperationAccepted)]
    assert len(accepted) == len(set(accepted))
    left = [name for name in names if name not in names[::2]]
    for name in left:
        assert (await plane.partition(name)).state == "running"
    assert await broken_invariants(plane) == []
    assert plane.deadlocks() == []
