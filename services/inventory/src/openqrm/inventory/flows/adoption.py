"""Taking a stranger on a host into the inventory, as it is."""

from sqlalchemy import select

from openqrm.contracts.errors import ConflictError, NotFoundError
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.partition import (
    AdoptPartition,
    BlockDisk,
    DiskBus,
    DiskDefinition,
    DiskFormat,
    DiskProtocol,
    DiskSource,
    FileDisk,
    Firmware,
    NetworkDisk,
    ObservedPartition,
    PartitionAdopted,
)
from openqrm.contracts.states import DesiredState, PartitionState
from openqrm.inventory import engine
from openqrm.inventory.adapters.partitions import row_to_network, select_networks
from openqrm.inventory.adapters.tables import strangers
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.domain.partition import Nic, Partition, new_nic
from openqrm.inventory.flows.reconciling import SEEN, held_on
from openqrm.inventory.flows.strangers import forget
from openqrm.inventory.handlers.partition import Turn, adopted
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def adopt_partition(inventory: Inventory, command: AdoptPartition) -> None:
    """Record the stranger as a partition, count what it takes, and write our epoch beside it."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        operation.target_id = command.partition_id
        known = await tx.hosts.get_ref(command.host)
        host = await tx.hosts.lock(known.id) or known
        statement = select(strangers.c.observed).where(
            strangers.c.host_id == host.id, strangers.c.partition_id == command.partition_id
        )
        row = (await tx.execute(statement)).scalar_one_or_none()
        if row is None:
            raise NotFoundError(
                f"No stranger {command.partition_id} is seen on the host {host.name!r}. List the strangers."
            )
        observed = ObservedPartition.model_validate(row)
        before = await tx.partitions.lock(command.partition_id)
        if before is not None:
            _check_place(before)
        partition = await _as_partition(tx, host, observed, command)
        operation.target_name = partition.name
        operation.context.state_before = partition.state.value
        partition.operation_id = operation.id
        if before is None:
            tx.partitions.add(partition)
        else:
            partition.revision = partition.saved_revision = before.revision
            partition.epoch = max(before.epoch + 1, partition.epoch)
            partition.created_at = before.created_at
        await _take_what_it_holds(inventory, tx, partition, before)
        await forget(tx, host.id, partition.id)
        turn = Turn(tx, operation, partition, await tx.networks_of(partition))
        engine.route(tx, operation, await adopted(turn), f"is being marked on {host.name}")
        await tx.tell_partition(PartitionAdopted, partition, operation.id)
        tx.partitions.save(partition, tx.now)

    await engine.submit(inventory, command, TargetKind.PARTITION, command.name or str(command.partition_id), use_case)


def _check_place(before: Partition) -> None:
    """One that was ours already: forgotten with its host, say, or moved by hand. Refuse if it may be elsewhere."""
    is_nowhere = before.state is PartitionState.MISSING and before.operation_id is None and before.host_id is not None
    if before.state is not PartitionState.DELETED and not is_nowhere:
        raise ConflictError(
            f"{before.id} is the partition {before.name!r} of ours, placed on {before.host_name} and {before.state}. "
            "What is seen here is a stale copy: remove it by hand."
        )


async def _take_what_it_holds(
    inventory: Inventory, tx: Transaction, partition: Partition, before: Partition | None
) -> None:
    """Count what it takes of its host, whether it fits or not, and what it took of another one no longer."""
    missed = before.host_id if before and before.state is PartitionState.MISSING else None
    for host_id in sorted({host_id for host_id in (missed, partition.host_id) if host_id}):
        if before and host_id == missed:
            await tx.hosts.give_back(held_on(before, host_id))
        if host_id == partition.host_id:
            await tx.hosts.add_reservation(held_on(partition, host_id))
    if before and missed:
        for mac in sorted(nic.mac for nic in before.nics):
            await tx.macs.release(mac, inventory.settings.mac_quarantine_seconds)
    for mac in sorted(nic.mac for nic in partition.nics):
        await tx.macs.adopt(mac, partition.technology, partition.id)


async def _as_partition(tx: Transaction, host: Host, observed: ObservedPartition, command: AdoptPartition) -> Partition:
    if observed.memory_mib is None or observed.vcpus is None or observed.state not in SEEN:
        raise ConflictError(f"The stranger {observed.name!r} is not fully seen yet. Try again in a moment.")
    state = SEEN[observed.state]
    desired = {PartitionState.RUNNING: DesiredState.RUNNING, PartitionState.PAUSED: DesiredState.PAUSED}
    return Partition(
        id=observed.id,
        revision=0,
        name=command.name or observed.name,
        technology=host.technology,
        state=state,
        desired_state=desired.get(state, DesiredState.STOPPED),
        epoch=(observed.epoch or 0) + 1,
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
    return DiskDefinition(
        id=new_id(),
        target=target,
        source=_as_source(source),
        bus=DiskBus(bus) if bus and bus in list(DiskBus) else DiskBus.VIRTIO,
        read_only=False,
    )


def _as_source(source: str) -> DiskSource:
    """What a disk is made of, from how its executor saw it: a path, a device, or protocol://server:port/volume."""
    form = DiskFormat.QCOW2 if source.endswith(".qcow2") else DiskFormat.RAW
    if source.startswith("/dev/"):
        return BlockDisk(device=source)
    protocol, separator, rest = source.partition("://")
    if separator and protocol in list(DiskProtocol):
        server, _, volume = rest.partition("/")
        name, _, port = server.rpartition(":") if server.rpartition(":")[2].isdecimal() else (server, "", "")
        return NetworkDisk(
            protocol=DiskProtocol(protocol), server=name, port=int(port) if port else None, volume=volume, format=form
        )
    if source.startswith("/"):
        return FileDisk(path=source, format=form)
    raise ConflictError(f"The disk {source!r} is of a kind that openQRM does not know, so it cannot be adopted.")


async def _as_nic(tx: Transaction, host: Host, mac: str, bridge: str | None, model: str | None) -> Nic:
    rows = [row_to_network(row) for row in (await tx.execute(select_networks())).mappings()]
    network = next((n for n in rows if n.bridge_on(host.id) == bridge), None)
    if network is None:
        raise ConflictError(
            f"The NIC {mac} is on the bridge {bridge!r} of {host.name!r}, which no network is mapped to. "
            "Create a network with that bridge first."
        )
    return new_nic(network.id, mac, model or "virtio")
