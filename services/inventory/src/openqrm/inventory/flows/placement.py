"""Finding a host for an operation that needs one, and going on with it there."""

from uuid import UUID

from openqrm.contracts.errors import OpenQrmError
from openqrm.contracts.execution import ExecuteMigratePartition
from openqrm.contracts.operation import OperationProgressed
from openqrm.contracts.partition import CreatePartition, MigratePartition, PartitionChanged
from openqrm.contracts.placement import PlacementRequest
from openqrm.contracts.technology import Capability
from openqrm.inventory import engine
from openqrm.inventory.domain.operation import Operation, Phase, Reservation
from openqrm.inventory.domain.partition import Partition
from openqrm.inventory.flows import creation
from openqrm.inventory.flows.partitions import carrier, command_of, not_placed
from openqrm.inventory.handlers.partition import held
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def place(inventory: Inventory, operation_id: UUID) -> None:
    """Find a host for an operation that needs one, and go on with it. Harmless when repeated."""
    async with inventory.transaction() as tx:
        operation = await tx.operations.get(operation_id)
        if operation is None or operation.phase is not Phase.PLACEMENT or operation.target_id is None:
            return
        partition = await tx.partitions.lock(operation.target_id)
        if partition is None:
            return
        command = command_of(operation)
        request = await _placement_request(tx, partition, command)
    with inventory.tracing.span("place", carrier=carrier(operation)):

        async def placed(tx: Transaction, operation: Operation, host_id: UUID) -> bool:
            if isinstance(command, CreatePartition):
                return await creation.placed(tx, operation, host_id, command)
            return await _migration_placed(tx, operation, host_id, command)

        async def unplaced(tx: Transaction, operation: Operation, error: OpenQrmError) -> None:
            await not_placed(inventory, tx, operation, error)

        await engine.place(inventory, operation_id, request, command.wait_for_capacity, placed, unplaced)


async def _placement_request(
    tx: Transaction, partition: Partition, command: CreatePartition | MigratePartition
) -> PlacementRequest:
    creating = isinstance(command, CreatePartition)
    only = (await tx.hosts.get_ref(command.host)).id if command.host is not None else None
    return PlacementRequest(
        partition_id=partition.id,
        technology=None if partition.technology == "any" else partition.technology,
        memory_mib=partition.memory_mib,
        vcpus=partition.vcpus,
        host_tags=partition.host_tags,
        network_ids=tuple(dict.fromkeys(nic.network_id for nic in partition.nics)),
        disk_mib=partition.disk_mib(),
        capabilities=frozenset() if creating else frozenset({Capability.MIGRATION}),
        only_host_id=only,
        excluded_host_ids=frozenset({partition.host_id} if partition.host_id else ()),
    )


async def _migration_placed(tx: Transaction, operation: Operation, host_id: UUID, command: MigratePartition) -> bool:
    partition = await tx.partitions.lock(operation.target_id) if operation.target_id else None
    target = await tx.hosts.get(host_id)
    if partition is None or target is None:
        return False
    wanted = Reservation(host_id=host_id, memory_mib=partition.memory_mib, cpus=partition.vcpus, partitions=1)
    if not await tx.hosts.reserve(wanted):
        return False
    operation.context.taken = [wanted]
    operation.context.given_up = [held(partition)]
    partition.target_host_id = host_id
    partition.epoch += 1
    networks = await tx.networks_of(partition)
    routed = ExecuteMigratePartition(
        operation_id=operation.id,
        host_id=partition.host_id,
        technology=partition.technology,
        partition=partition.definition(networks),
        target_host_id=host_id,
        target_nics=partition.nic_definitions(networks, host_id),
        live=command.live,
        bandwidth_mib_s=command.bandwidth_mib_s,
    )
    engine.route(tx, operation, routed, f"moves from {partition.host_name} to {target.name}")
    await tx.tell_partition(PartitionChanged, partition, operation.id, "migrate")
    await tx.partitions.save(partition, tx.now)
    tx.tell_operation(OperationProgressed, operation)
    await tx.operations.save(operation, tx.now)
    return True
