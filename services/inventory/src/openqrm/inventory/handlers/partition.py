"""Commands on partitions: each function checks one command and says what is to be done.

It runs when it is the operation's turn, with the partition locked. It changes the partition or notes changes that
are to apply when the operation succeeds, and returns what the executor is to do (or None when all is done).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from openqrm.contracts.errors import (
    CancelledError,
    ConflictError,
    FieldProblem,
    InvalidError,
    NotFoundError,
    UnsupportedError,
)
from openqrm.contracts.execution import (
    ExecuteAdoptPartition,
    ExecuteAttachDisk,
    ExecuteAttachNic,
    ExecuteDeletePartition,
    ExecuteDetachDisk,
    ExecuteDetachNic,
    ExecuteMapNic,
    ExecutePausePartition,
    ExecutePinPartition,
    ExecuteRebootPartition,
    ExecuteResizePartition,
    ExecuteShutdownPartition,
    ExecuteStartPartition,
    ExecuteStopPartition,
    ExecuteUnpausePartition,
    PartitionExecution,
)
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import (
    AttachDisk,
    AttachNic,
    ChangePartition,
    DeletePartition,
    DetachDisk,
    DetachNic,
    MapNic,
    MigratePartition,
    PartitionCommand,
    PausePartition,
    PinPartition,
    RebootPartition,
    ResizePartition,
    ShutdownPartition,
    StartPartition,
    StopPartition,
    UnpausePartition,
)
from openqrm.contracts.states import HostState, PartitionState
from openqrm.contracts.technology import Capability
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation, Reservation
from openqrm.inventory.domain.partition import Network, Nic, Partition, nic_definition
from openqrm.inventory.flows import strangers
from openqrm.inventory.flows.reconciling import held_on
from openqrm.inventory.handlers.resolving import (
    check_disk,
    define_disk,
    find_network,
    require_capability,
)
from openqrm.inventory.transaction import Transaction

MAX_DISKS = 24
MAX_NICS = 16

_CARRYING = (HostState.READY, HostState.DRAINING, HostState.MAINTENANCE)
"""States in which a host serves the partitions that it has."""


@dataclass(frozen=True)
class Turn:
    """An operation's turn on its partition."""

    tx: Transaction
    operation: Operation
    partition: Partition
    networks: dict[UUID, Network]

    @property
    def routing(self) -> dict[str, Any]:
        """The fields that every routed command on the partition has."""
        return {
            "operation_id": self.operation.id,
            "host_id": self.partition.host_id,
            "technology": self.partition.technology,
        }

    @property
    def whole(self) -> dict[str, Any]:
        """The same, with the partition as it is now."""
        return {**self.routing, "partition": self.partition.definition(self.networks)}

    async def host(self) -> Host:
        """The host that it is on."""
        host = await self.tx.hosts.get(self.partition.host_id) if self.partition.host_id else None
        if host is None:
            raise ConflictError(f"The partition {self.partition.name!r} is on no host.")
        return host


# ------------------------------------------------------------------------------------------------ life


async def start_partition(turn: Turn, command: StartPartition) -> PartitionExecution:
    """Start it where it is, unless it is seen in memory somewhere else."""
    elsewhere = await strangers.in_memory_elsewhere(turn.tx, turn.partition.id)
    if elsewhere is not None:
        raise ConflictError(
            f"The partition {turn.partition.name!r} was last seen in memory on the host {elsewhere!r}, where it is not "
            "placed. It must never run twice: stop it there by hand, or adopt it there if it is missing here.",
            details={"host": elsewhere},
        )
    return ExecuteStartPartition(**turn.whole)


async def stop_partition(turn: Turn, command: StopPartition) -> PartitionExecution:
    """Stop it at once."""
    return ExecuteStopPartition(**turn.whole)


async def shutdown_partition(turn: Turn, command: ShutdownPartition) -> PartitionExecution:
    """Ask its guest."""
    return ExecuteShutdownPartition(**turn.whole, timeout_seconds=command.timeout_seconds, force=command.force)


async def reboot_partition(turn: Turn, command: RebootPartition) -> PartitionExecution:
    """Reboot or reset it."""
    return ExecuteRebootPartition(**turn.whole, hard=command.hard)


async def pause_partition(turn: Turn, command: PausePartition) -> PartitionExecution:
    """Let it stand still."""
    await require_capability(turn.tx, turn.partition.technology, Capability.PAUSE)
    return ExecutePausePartition(**turn.whole)


async def unpause_partition(turn: Turn, command: UnpausePartition) -> PartitionExecution:
    """Let it go on."""
    await require_capability(turn.tx, turn.partition.technology, Capability.PAUSE)
    return ExecuteUnpausePartition(**turn.whole)


async def delete_partition(turn: Turn, command: DeletePartition) -> PartitionExecution | None:
    """Remove it; the executor stops it first, if it runs and that was asked for."""
    partition, context = turn.partition, turn.operation.context
    context.macs_given_up = [nic.mac for nic in partition.nics]
    if partition.host_id is None:
        return None
    context.given_up = [held_on(partition, partition.host_id)]
    if turn.operation.context.state_before in (PartitionState.STOPPED, PartitionState.CRASHED, PartitionState.MISSING):
        return ExecuteDeletePartition(**turn.whole)
    context.changes["then_delete"] = True
    return ExecuteStopPartition(**turn.whole)


# ------------------------------------------------------------------------------------------------ size and pinning


async def resize_partition(turn: Turn, command: ResizePartition) -> PartitionExecution:
    """Change memory and vCPUs: reserve what is added first, give back what is taken away afterwards."""
    await require_capability(turn.tx, turn.partition.technology, Capability.RESIZE)
    partition = turn.partition
    wanted = _check_size(partition, command)
    more_memory = wanted["memory_mib"] - partition.memory_mib
    more_cpus = wanted["vcpus"] - partition.vcpus
    host = await turn.host()
    added = Reservation(host_id=host.id, memory_mib=max(more_memory, 0), cpus=max(more_cpus, 0), partitions=0)
    if added.memory_mib or added.cpus:
        if host.state not in _CARRYING:
            raise ConflictError(
                f"The host {host.name!r} of {partition.name!r} is {host.state}, so nothing can be added to it now."
            )
        if not await turn.tx.hosts.reserve(added, states=_CARRYING):
            raise _too_small(partition, host, added)
        turn.operation.context.taken = [added]
    if more_memory < 0 or more_cpus < 0:
        turn.operation.context.given_up = [
            Reservation(host_id=host.id, memory_mib=max(-more_memory, 0), cpus=max(-more_cpus, 0), partitions=0)
        ]
    turn.operation.context.changes = wanted
    definition = partition.definition(turn.networks).model_copy(update=wanted)
    return ExecuteResizePartition(**turn.routing, partition=definition)


def _check_size(partition: Partition, command: ResizePartition) -> dict[str, int]:
    at_rest = partition.state in (PartitionState.STOPPED, PartitionState.CRASHED)
    memory = command.memory_mib or partition.memory_mib
    vcpus = command.vcpus or partition.vcpus
    problems = []
    for field, wish, ceiling_now in (
        ("memory_max_mib", command.memory_max_mib, partition.memory_max_mib),
        ("vcpus_max", command.vcpus_max, partition.vcpus_max),
    ):
        if wish is not None and wish != ceiling_now and not at_rest:
            problems.append(
                FieldProblem(
                    field=field, message=f"can only change while the partition is stopped; it is {partition.state}"
                )
            )
    # A stopped partition's ceilings grow with its size when they are not given.
    memory_max = command.memory_max_mib or (
        max(partition.memory_max_mib, memory) if at_rest else partition.memory_max_mib
    )
    vcpus_max = command.vcpus_max or (max(partition.vcpus_max, vcpus) if at_rest else partition.vcpus_max)
    for field, value, limit in (("memory_mib", memory, memory_max), ("vcpus", vcpus, vcpus_max)):
        if value > limit:
            problems.append(
                FieldProblem(
                    field=field,
                    message=f"{value} is above this partition's maximum of {limit}"
                    + ("" if at_rest else "; stop it to raise the maximum"),
                    limit=str(limit),
                )
            )
    if problems:
        text = "; ".join(f"{p.field}: {p.message}" for p in problems)
        raise InvalidError(f"The partition {partition.name!r} cannot be resized: {text}.", fields=tuple(problems))
    return {"memory_mib": memory, "memory_max_mib": memory_max, "vcpus": vcpus, "vcpus_max": vcpus_max}


def _too_small(partition: Partition, host: Host, added: Reservation) -> ConflictError:
    return ConflictError(
        f"The host {host.name!r} has no room for {added.memory_mib} MiB and {added.cpus} vCPUs more, which "
        f"{partition.name!r} would need. Move it to a larger host, or free capacity there.",
        details={"host": host.name, "memory_mib": added.memory_mib, "vcpus": added.cpus},
    )


async def pin_partition(turn: Turn, command: PinPartition) -> PartitionExecution:
    """Tie its vCPUs to host CPUs."""
    await require_capability(turn.tx, turn.partition.technology, Capability.CPU_PINNING)
    host = await turn.host()
    cpus = host.facts.cpus if host.facts else 0
    problems = [
        FieldProblem(
            field=f"cpu_pins.{vcpu}",
            message=f"there is no vCPU {vcpu}; they count from 0 to {turn.partition.vcpus_max - 1}",
            limit=str(turn.partition.vcpus_max - 1),
        )
        for vcpu in command.cpu_pins
        if not 0 <= vcpu < turn.partition.vcpus_max
    ]
    for vcpu, pins in command.cpu_pins.items():
        wrong = [cpu for cpu in pins if not 0 <= cpu < cpus]
        if wrong or not pins:
            problems.append(
                FieldProblem(
                    field=f"cpu_pins.{vcpu}",
                    message=f"the host {host.name!r} has the CPUs 0 to {cpus - 1}; name at least one of them",
                    limit=str(cpus - 1),
                )
            )
    if problems:
        raise InvalidError(
            f"The partition {turn.partition.name!r} cannot be pinned like this: "
            + "; ".join(f"{p.field}: {p.message}" for p in problems)
            + ".",
            fields=tuple(problems),
        )
    wanted = {vcpu: tuple(sorted(set(pins))) for vcpu, pins in sorted(command.cpu_pins.items())}
    turn.operation.context.changes = {"cpu_pins": {str(vcpu): list(pins) for vcpu, pins in wanted.items()}}
    definition = turn.partition.definition(turn.networks).model_copy(update={"cpu_pins": wanted})
    return ExecutePinPartition(**turn.routing, partition=definition)


# ------------------------------------------------------------------------------------------------ NICs and disks


def _nics_as_json(nics: list[Nic]) -> list[dict[str, str]]:
    return [{"id": str(nic.id), "network_id": str(nic.network_id), "mac": nic.mac, "model": nic.model} for nic in nics]


def _find_nic(partition: Partition, mac: str) -> Nic:
    for nic in partition.nics:
        if nic.mac == mac:
            return nic
    has = ", ".join(nic.mac for nic in partition.nics) or "none"
    raise NotFoundError(f"The partition {partition.name!r} has no NIC with the address {mac}; it has {has}.")


async def attach_nic(turn: Turn, command: AttachNic) -> PartitionExecution:
    """Add a NIC with an address from the technology's range."""
    partition = turn.partition
    await require_capability(turn.tx, partition.technology, Capability.NICS)
    if len(partition.nics) >= MAX_NICS:
        raise InvalidError(
            f"The partition {partition.name!r} has {MAX_NICS} NICs, which is the limit.",
            fields=(FieldProblem(field="nic", message="too many NICs", limit=str(MAX_NICS)),),
        )
    network = await find_network(turn.tx, command.nic.network)
    mac = await turn.tx.macs.allocate(partition.technology, partition.id, wished=command.nic.mac, note=partition.name)
    nic = Nic(new_id(), network.id, mac, command.nic.model)
    turn.operation.context.macs_taken = [mac]
    after = [*partition.nics, nic]
    turn.operation.context.changes = {"nics": _nics_as_json(after)}
    built = nic_definition(nic, network, partition.host_id)
    definition = partition.definition(turn.networks)
    return ExecuteAttachNic(
        **turn.routing, partition=definition.model_copy(update={"nics": (*definition.nics, built)}), nic=built
    )


async def detach_nic(turn: Turn, command: DetachNic) -> PartitionExecution:
    """Remove a NIC; its address goes into quarantine."""
    partition = turn.partition
    await require_capability(turn.tx, partition.technology, Capability.NICS)
    nic = _find_nic(partition, command.mac)
    turn.operation.context.macs_given_up = [nic.mac]
    turn.operation.context.changes = {"nics": _nics_as_json([n for n in partition.nics if n.id != nic.id])}
    definition = partition.definition(turn.networks)
    left = tuple(n for n in definition.nics if n.id != nic.id)
    return ExecuteDetachNic(
        **turn.routing,
        partition=definition.model_copy(update={"nics": left}),
        nic=nic_definition(nic, turn.networks[nic.network_id], partition.host_id),
    )


async def map_nic(turn: Turn, command: MapNic) -> PartitionExecution:
    """Plug a NIC into another network."""
    partition = turn.partition
    await require_capability(turn.tx, partition.technology, Capability.NICS)
    nic = _find_nic(partition, command.mac)
    network = await find_network(turn.tx, command.network)
    moved = Nic(nic.id, network.id, nic.mac, nic.model)
    turn.operation.context.changes = {"nics": _nics_as_json([moved if n.id == nic.id else n for n in partition.nics])}
    built = nic_definition(moved, network, partition.host_id)
    definition = partition.definition(turn.networks)
    nics = tuple(built if n.id == nic.id else n for n in definition.nics)
    return ExecuteMapNic(**turn.routing, partition=definition.model_copy(update={"nics": nics}), nic=built)


async def attach_disk(turn: Turn, command: AttachDisk) -> PartitionExecution:
    """Add a disk."""
    partition = turn.partition
    await require_capability(turn.tx, partition.technology, Capability.DISKS)
    if len(partition.disks) >= MAX_DISKS:
        raise InvalidError(
            f"The partition {partition.name!r} has {MAX_DISKS} disks, which is the limit.",
            fields=(FieldProblem(field="disk", message="too many disks", limit=str(MAX_DISKS)),),
        )
    check_disk(command.disk, "disk")
    disk = await define_disk(turn.tx, command.disk, "disk", partition.next_target)
    after = [*partition.disks, disk]
    turn.operation.context.changes = {"disks": [d.model_dump(mode="json") for d in after]}
    definition = partition.definition(turn.networks).model_copy(update={"disks": tuple(after)})
    return ExecuteAttachDisk(**turn.routing, partition=definition, disk=disk)


async def detach_disk(turn: Turn, command: DetachDisk) -> PartitionExecution:
    """Remove a disk."""
    partition = turn.partition
    await require_capability(turn.tx, partition.technology, Capability.DISKS)
    disk = next((d for d in partition.disks if d.target == command.target), None)
    if disk is None:
        has = ", ".join(d.target for d in partition.disks) or "none"
        raise NotFoundError(f"The partition {partition.name!r} has no disk {command.target!r}; it has {has}.")
    after = [d for d in partition.disks if d.id != disk.id]
    turn.operation.context.changes = {"disks": [d.model_dump(mode="json") for d in after]}
    definition = partition.definition(turn.networks).model_copy(update={"disks": tuple(after)})
    return ExecuteDetachDisk(**turn.routing, partition=definition, disk=disk, keep=command.keep)


# ------------------------------------------------------------------------------------------------ words


async def change_partition(turn: Turn, command: ChangePartition) -> PartitionExecution | None:
    """Change name, tags and policy; nothing has to be done on the host."""
    partition = turn.partition
    for field in ("name", "tags", "host_tags", "on_crash"):
        value = getattr(command, field)
        if value is not None:
            setattr(partition, field, value)
    return None


# ------------------------------------------------------------------------------------------------ moving


async def migrate_partition(turn: Turn, command: MigratePartition) -> None:
    """Check that it can move; where to is the scheduler's to say, and `moving` goes on from there."""
    partition, parent_id = turn.partition, turn.operation.parent_id
    if parent_id and (parent := await turn.tx.operations.get(parent_id)) and parent.is_ended:
        raise CancelledError(f"The evacuation that {partition.name!r} was to be moved by has ended.")
    manifest = await require_capability(turn.tx, partition.technology, Capability.MIGRATION)
    running = turn.operation.context.state_before in (PartitionState.RUNNING, PartitionState.PAUSED)
    if command.live and running and manifest and "live-migration" not in manifest.features:
        raise UnsupportedError(
            f"{manifest.title} cannot move {partition.name!r} live. Ask for a regular migration instead."
        )
    source = await turn.host()
    if command.host is not None and (await turn.tx.hosts.get_ref(command.host)).id == source.id:
        raise ConflictError(f"The partition {partition.name!r} is on the host {source.name!r} already.")


async def adopted(turn: Turn) -> PartitionExecution:
    """Write our epoch beside a stranger."""
    return ExecuteAdoptPartition(**turn.whole)


Plan = Callable[[Turn, Any], Awaitable[PartitionExecution | None]]

PLANS: dict[type[PartitionCommand], Plan] = {
    StartPartition: start_partition,
    StopPartition: stop_partition,
    ShutdownPartition: shutdown_partition,
    RebootPartition: reboot_partition,
    PausePartition: pause_partition,
    UnpausePartition: unpause_partition,
    ResizePartition: resize_partition,
    PinPartition: pin_partition,
    MigratePartition: migrate_partition,
    DeletePartition: delete_partition,
    AttachNic: attach_nic,
    DetachNic: detach_nic,
    MapNic: map_nic,
    AttachDisk: attach_disk,
    DetachDisk: detach_disk,
    ChangePartition: change_partition,
}
