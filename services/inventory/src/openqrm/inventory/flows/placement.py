"""Finding a host for an operation that needs one, and going on with it there."""

from functools import partial
from uuid import UUID

from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.execution import ExecuteMigratePartition
from openqrm.contracts.operation import OperationProgressed
from openqrm.contracts.partition import CreatePartition, MigratePartition, PartitionChanged
from openqrm.inventory import engine
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.domain.partition import Partition
from openqrm.inventory.flows import creation
from openqrm.inventory.flows.partitions import as_permanent, command_of, give_up
from openqrm.inventory.flows.reconciling import held_on
from openqrm.inventory.flows.wanted import Wanted, wanted_by
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def place(inventory: Inventory, operation_id: UUID, wanted: Wanted | None = None) -> None:
    """Find a host for an operation that needs one, and go on with it. Harmless when repeated.

    `wanted`: what it needs, when that is known already.

    While the scheduler or the database is away, or others are faster, nothing is done, and the sweeper repeats it. Any
    other error ends the operation.
    """
    try:
        async with inventory.placements:
            await _place(inventory, operation_id, wanted)
    except engine.ContendedError:
        return  # it says nothing about the other placements
    except TemporaryError as error:
        if inventory.placement_waits is None:
            inventory.log.warning("placements wait", reason=error.message)
        inventory.placement_waits = error.message
        return
    except Exception as error:  # noqa: BLE001 - tried again, it would fail again
        await give_up(inventory, operation_id, as_permanent(inventory, error))
    if inventory.placement_waits is not None:
        inventory.log.info("placements go on")
        inventory.placement_waits = None


async def _place(inventory: Inventory, operation_id: UUID, wanted: Wanted | None) -> None:
    if wanted is None and (wanted := await _look_up(inventory, operation_id)) is None:
        return
    command, request = wanted.command, wanted.request
    with inventory.tracing.span("place", carrier=wanted.carrier):

        async def placed(tx: Transaction, host_id: UUID) -> bool:
            await tx.hosts.hold(host_id)
            partition = await tx.partitions.lock(request.partition_id)
            operation = await engine.in_placement(tx, operation_id)
            host = await tx.hosts.get(host_id)
            if partition is None or operation is None or partition.operation_id != operation.id:
                return True  # cancelled or placed meanwhile: nothing is left to do
            if host is None:
                return False
            if isinstance(command, CreatePartition):
                return await creation.placed(tx, operation, partition, host, command)
            return await _migration_placed(tx, operation, partition, host, command)

        await engine.place(
            inventory,
            operation_id,
            request,
            command.wait_for_capacity,
            placed,
            partial(give_up, inventory, operation_id),
        )


async def _look_up(inventory: Inventory, operation_id: UUID) -> Wanted | None:
    """What an operation in its placement phase needs; None when there is nothing to do for it."""
    async with inventory.transaction() as tx:
        operation = await tx.operations.get(operation_id)
        if operation is None or operation.phase is not Phase.PLACEMENT or operation.target_id is None:
            return None
        partition = await tx.partitions.get(operation.target_id)
        if partition is None:
            return None
        return await wanted_by(tx, operation, partition, command_of(operation))


async def _migration_placed(
    tx: Transaction, operation: Operation, partition: Partition, target: Host, command: MigratePartition
) -> bool:
    if partition.host_id is None:
        return True
    wanted = held_on(partition, target.id)
    if not await tx.hosts.reserve(wanted):
        return False
    operation.context.taken = [wanted]
    operation.context.given_up = [held_on(partition, partition.host_id)]
    partition.target_host_id = target.id
    partition.epoch += 1
    networks = await tx.networks_of(partition)
    routed = ExecuteMigratePartition(
        operation_id=operation.id,
        host_id=partition.host_id,
        technology=partition.technology,
        partition=partition.definition(networks),
        target_host_id=target.id,
        target_nics=partition.nic_definitions(networks, target.id),
        live=command.live,
        bandwidth_mib_s=command.bandwidth_mib_s,
    )
    engine.route(tx, operation, routed, f"moves from {partition.host_name} to {target.name}")
    await tx.tell_partition(PartitionChanged, partition, operation.id, "migrate")
    tx.partitions.save(partition, tx.now)
    tx.tell_operation(OperationProgressed, operation)
    tx.operations.save(operation, tx.now)
    return True
