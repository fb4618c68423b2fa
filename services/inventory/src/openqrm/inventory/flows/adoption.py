"""Taking a stranger on a host into the inventory, as it is."""

from sqlalchemy import delete, select

from openqrm.contracts.errors import ConflictError, NotFoundError
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.partition import (
    AdoptPartition,
    DiskBus,
    DiskDefinition,
    FileDisk,
    Firmware,
    ObservedPartition,
    PartitionAdopted,
)
from openqrm.contracts.states import DesiredState, PartitionState
from openqrm.inventory import engine
from openqrm.inventory.adapters.partitions import row_to_network
from openqrm.inventory.adapters.tables import networks, resources, strangers
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.domain.partition import Nic, Partition, new_nic
from openqrm.inventory.flows.partitions import SEEN
from openqrm.inventory.handlers.partition import Turn, adopted, held
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def adopt_partition(inventory: Inventory, command: AdoptPartition) -> None:
    """Record the stranger as a partition, count what it takes, and write our epoch beside it."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        operation.target_id = command.partition_id
        host = await tx.hosts.get_ref(command.host)
        statement = select(strangers.c.observed).where(
            strangers.c.host_id == host.id, strangers.c.partition_id == command.partition_id
        )
        row = (await tx.connection.execute(statement)).scalar_one_or_none()
        if row is None:
            raise NotFoundError(
                f"No stranger {command.partition_id} is seen on the host {host.name!r}. List the strangers."
            )
        observed = ObservedPartition.model_validate(row)
        before = select(resources.c.state).where(resources.c.id == command.partition_id)
        if (await tx.connection.execute(before)).scalar_one_or_none() is not None:
            raise ConflictError(
                f"The id {command.partition_id} was used by a partition of ours. Remove the stranger by hand."
            )
        partition = await _as_partition(tx, host, observed, command)
        operation.target_name = partition.name
        operation.context.state_before = partition.state.value
        partition.operation_id = operation.id
        await tx.partitions.add(partition)
        await tx.hosts.add_reservation(held(partition))
        for nic in partition.nics:
            await tx.macs.adopt(nic.mac, host.technology, partition.id)
        await tx.connection.execute(
            delete(strangers).where(strangers.c.host_id == host.id, strangers.c.partition_id == partition.id)
        )
        turn = Turn(tx, operation, partition, await tx.networks_of(partition))
        engine.route(tx, operation, await adopted(turn), f"is being marked on {host.name}")
        await tx.tell_partition(PartitionAdopted, partition, operation.id)
        await tx.partitions.save(partition, tx.now)

    await engine.submit(inventory, command, TargetKind.PARTITION, command.name or str(command.partition_id), use_case)


async def _as_partition(tx: Transaction, host: Host, observed: ObservedPartition, command: AdoptPartition) -> Partition:
    if observed.memory_mib is None or observed.vcpus is None or observed.state not in SEEN:
        raise ConflictError(f"The stranger {observed.name!r} is not fully seen yet. Try again in a moment.")
    state = SEEN[observed.state]
    running = state is PartitionState.RUNNING
    return Partition(
        id=observed.id,
        revision=0,
        name=command.name or observed.name,
        technology=host.technology,
        state=state,
        desired_state=DesiredState.RUNNING if running else DesiredState.STOPPED,
        epoch=1,
        host_id=host.id,
        host_name=host.name,
        target_host_id=None,
        memory_mib=observed.memory_mib,
        memory_max_mib=max(observed.memory_max_mib or 0, observed.memory_mib),
        vcpus=observed.vcpus,
        vcpus_max=max(observed.vcpus_max or 0, observed.vcpus),
        cpu_pins={},
        disks=[_as_disk(disk.target, disk.source, disk.bus) for disk in observed.disks],
        nics=[await _as_nic(tx, host, nic.mac, nic.bridge, nic.model) for nic in observed.nics],
        firmware=Firmware.BIOS,
        vnc=True,
        tags=(),
        host_tags=(),
        on_crash=command.on_crash,
        operation_id=None,
        drift=(),
        created_at=tx.now,
        updated_at=tx.now,
    )


def _as_disk(target: str, source: str, bus: str | None) -> DiskDefinition:
    path = source if source.startswith("/") else f"/{source}"
    return DiskDefinition(
        id=new_id(),
        target=target,
        source=FileDisk(path=path),
        bus=DiskBus(bus) if bus and bus in list(DiskBus) else DiskBus.VIRTIO,
        read_only=False,
    )


async def _as_nic(tx: Transaction, host: Host, mac: str, bridge: str | None, model: str | None) -> Nic:
    rows = [row_to_network(row) for row in await tx.connection.execute(select(networks))]
    network = next((n for n in rows if n.bridge_on(host.id) == bridge), None)
    if network is None:
        raise ConflictError(
            f"The NIC {mac} is on the bridge {bridge!r} of {host.name!r}, which no network is mapped to. "
            f"Create a network with that bridge first."
        )
    return new_nic(network.id, mac, model or "virtio")
