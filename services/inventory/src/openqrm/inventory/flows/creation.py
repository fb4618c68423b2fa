"""How a partition comes to be: checked, placed, made on its host, and undone when that fails."""

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.execution import ExecuteCreatePartition
from openqrm.contracts.operation import OperationProgressed, TargetKind
from openqrm.contracts.partition import CreatePartition, PartitionChanged
from openqrm.contracts.states import DesiredState, OperationState, PartitionState
from openqrm.inventory import engine
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.domain.partition import Nic, Partition, new_nic
from openqrm.inventory.flows.reconciling import held_on
from openqrm.inventory.flows.wanted import wanted_by
from openqrm.inventory.handlers.resolving import check_disk, define_disk, find_network, manifest_of
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction

NO_MAC_YET = "02:00:00:00:00:00"
"""Stands in a NIC until the technology, and with it the MAC range, is known."""


async def create_partition(inventory: Inventory, command: CreatePartition) -> None:
    """Take the command: record the partition and look for a host."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        operation.target_id = command.partition_id
        _check_ceilings(command)
        if command.technology != "any":
            await manifest_of(tx, command.technology)
        partition = _new_partition(command, inventory)
        for index, spec in enumerate(command.disks):
            check_disk(spec, f"disks.{index}")
            disk = await define_disk(tx, spec, f"disks.{index}", partition.next_target)
            partition.disks.append(disk)
        partition.nics = await _new_nics(tx, operation, command, partition)
        partition.operation_id = operation.id
        operation.state, operation.phase = OperationState.RUNNING, Phase.PLACEMENT
        operation.step = "looks for a host"
        await tx.tell_partition(PartitionChanged, partition, operation.id, "create")
        tx.partitions.add(partition)
        inventory.place_after(tx, operation.id, await wanted_by(tx, operation, partition, command))

    await engine.submit(inventory, command, TargetKind.PARTITION, command.name, use_case)


def _check_ceilings(command: CreatePartition) -> None:
    problems = []
    for field, value, ceiling_field, ceiling in (
        ("memory_mib", command.memory_mib, "memory_max_mib", command.memory_max_mib),
        ("vcpus", command.vcpus, "vcpus_max", command.vcpus_max),
    ):
        if ceiling is not None and ceiling < value:
            problems.append(
                FieldProblem(
                    field=ceiling_field, message=f"{ceiling} is below {field}, which is {value}", limit=str(value)
                )
            )
    if problems:
        text = "; ".join(f"{p.field}: {p.message}" for p in problems)
        raise InvalidError(f"The partition {command.name!r} cannot be created: {text}.", fields=tuple(problems))


def _new_partition(command: CreatePartition, inventory: Inventory) -> Partition:
    now = inventory.clock.now()
    return Partition(
        id=command.partition_id,
        revision=0,
        name=command.name,
        technology=command.technology,
        state=PartitionState.CREATING,
        desired_state=DesiredState.RUNNING if command.start else DesiredState.STOPPED,
        epoch=1,
        host_id=None,
        host_name=None,
        target_host_id=None,
        memory_mib=command.memory_mib,
        memory_max_mib=command.memory_max_mib or command.memory_mib,
        vcpus=command.vcpus,
        vcpus_max=command.vcpus_max or command.vcpus,
        cpu_pins={},
        disks=[],
        nics=[],
        firmware=command.firmware,
        vnc=command.vnc,
        tags=command.tags,
        host_tags=command.host_tags,
        on_crash=command.on_crash,
        operation_id=None,
        drift=(),
        created_at=now,
        updated_at=now,
    )


async def _new_nics(tx: Transaction, operation: Operation, command: CreatePartition, partition: Partition) -> list[Nic]:
    nics = []
    for spec in command.nics:
        network = await find_network(tx, spec.network)
        mac = spec.mac or NO_MAC_YET
        if command.technology != "any":
            mac = await _allocate(tx, operation, command.technology, partition, spec.mac)
        nics.append(new_nic(network.id, mac, spec.model))
    return nics


async def _allocate(
    tx: Transaction, operation: Operation, technology: str, partition: Partition, wished: str | None
) -> str:
    mac = await tx.macs.allocate(technology, partition.id, wished=wished, note=partition.name)
    operation.context.macs_taken.append(mac)
    return mac


async def placed(
    tx: Transaction,
    operation: Operation,
    partition: Partition,
    host: Host,
    command: CreatePartition,
) -> bool:
    """Reserve on the chosen host and send the partition there; False when the capacity is gone."""
    wanted = held_on(partition, host.id)
    if not await tx.hosts.reserve(wanted):
        return False
    operation.context.taken = [wanted]
    partition.host_id, partition.host_name = host.id, host.name
    if partition.technology == "any":
        partition.technology = host.technology
        wishes = [spec.mac for spec in command.nics]
        partition.nics = [
            Nic(nic.id, nic.network_id, await _allocate(tx, operation, host.technology, partition, wish), nic.model)
            for nic, wish in zip(partition.nics, wishes, strict=True)
        ]
    networks = await tx.networks_of(partition)
    routed = ExecuteCreatePartition(
        operation_id=operation.id,
        host_id=host.id,
        technology=host.technology,
        partition=partition.definition(networks),
        start=command.start,
    )
    engine.route(tx, operation, routed, f"is being made on {host.name}")
    await tx.tell_partition(PartitionChanged, partition, operation.id, "create")
    tx.partitions.save(partition, tx.now)
    tx.tell_operation(OperationProgressed, operation)
    tx.operations.save(operation, tx.now)
    return True
