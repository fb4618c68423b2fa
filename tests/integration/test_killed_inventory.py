"""Inventory killed with -9 in the middle of its work: another process goes on with it, and nothing is done twice."""

from support.control_plane import ControlPlane
from support.invariants import broken_invariants
from support.inventory_process import kill, start_inventory_process

from openqrm.contracts.operation import OperationAccepted
from openqrm.contracts.partition import CreatePartition, DeletePartition, MigratePartition

PARTITIONS = 30


async def test_inventory_killed_again_and_again(plane: ControlPlane) -> None:
    await plane.ready_host("k1", "cpus=64&memory_mib=262144")
    await plane.ready_host("k2", "cpus=64&memory_mib=262144")
    await plane.inventory.stop()
    names = [f"killed {number}" for number in range(PARTITIONS)]
    commands = [CreatePartition(name=name, technology="fake", memory_mib=64, start=True) for name in names]
    commands += [MigratePartition(partition=name) for name in names]
    commands += [DeletePartition(partition=name, force=True) for name in names[::2]]
    process = await start_inventory_process(plane)
    try:
        for number, command in enumerate(commands):
            await plane.client.publish(command)
            if number % 25 == 24:
                await plane.clock.sleep(0.2)
                await kill(process)
                process = await start_inventory_process(plane)
        ended = [await plane.end_of(command.operation_id) for command in commands]
    finally:
        await kill(process)
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
