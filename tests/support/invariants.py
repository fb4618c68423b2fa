"""What must be true of the control plane whenever nothing is being committed, whatever happened before."""

from collections import Counter, defaultdict
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from support.control_plane import ControlPlane

from openqrm.contracts.host import HostEvent
from openqrm.contracts.operation import OperationEvent
from openqrm.contracts.partition import PartitionEvent
from openqrm.inventory.adapters.hosts import row_to_host, select_hosts
from openqrm.inventory.adapters.operations import row_to_operation, select_operations
from openqrm.inventory.adapters.partitions import row_to_partition, select_partitions
from openqrm.inventory.adapters.tables import mac_addresses, operations
from openqrm.inventory.domain.mac_ranges import to_text


async def broken_invariants(plane: ControlPlane) -> list[str]:
    """A sentence for each that is broken; empty when all is well."""
    database = plane.inventory.inventory.database
    async with database.transaction() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        hosts = [row_to_host(row) for row in (await connection.execute(select_hosts())).mappings()]
        partitions = [row_to_partition(row) for row in (await connection.execute(select_partitions())).mappings()]
        unfinished = select_operations().where(operations.c.ended_at.is_(None))
        running = [row_to_operation(row) for row in (await connection.execute(unfinished)).mappings()]
        macs = (await connection.execute(select(mac_addresses))).all()
    alive = [partition for partition in partitions if partition.state != "deleted"]
    return [
        *_reservations(hosts, alive, running),
        *_work(hosts, alive, running),
        *_addresses(alive, running, macs),
        *_gaps(plane),
        *plane.world.ran_twice,
        *(f"{partition_id} runs on {names}" for partition_id, names in plane.world.running_twice().items()),
    ]


def _reservations(hosts: list[Any], alive: list[Any], running: list[Any]) -> list[str]:
    """What the hosts' counters say is what the partitions on them take, and what is being added to these."""
    wanted: dict[UUID, Counter[str]] = defaultdict(Counter)
    for partition in alive:
        for host_id in (partition.host_id, partition.target_host_id):
            if host_id:
                wanted[host_id].update(memory=partition.memory_mib, cpus=partition.vcpus, partitions=1)
    for operation in running:
        for taken in operation.context.taken:
            if not taken.partitions:
                wanted[taken.host_id].update(memory=taken.memory_mib, cpus=taken.cpus)
    broken = []
    for host in hosts:
        has = (host.memory_reserved_mib, host.cpus_reserved, host.partitions)
        needs = tuple(wanted[host.id][word] for word in ("memory", "cpus", "partitions"))
        if has != needs:
            broken.append(f"{host.name} has {has} reserved (MiB, vCPUs, partitions), its partitions take {needs}")
    return broken


def _work(hosts: list[Any], alive: list[Any], running: list[Any]) -> list[str]:
    """What is busy is so with a running operation on it, and the other way round."""
    by_id = {operation.id: operation for operation in running}
    busy = {thing.operation_id: thing for thing in [*hosts, *alive] if thing.operation_id}
    broken = [
        f"{thing.name} is busy with {operation_id}, which has ended or is on something else"
        for operation_id, thing in busy.items()
        if operation_id not in by_id or by_id[operation_id].target_id != thing.id
    ]
    broken += [
        f"{operation.verb} of {operation.target_name} runs, and nothing is busy with it"
        for operation in running
        if operation.state in ("running", "waiting") and operation.id not in busy
    ]
    return broken + [
        f"{thing.name} has sightings that nobody will judge"
        for thing in alive
        if thing.sightings and not thing.operation_id and not thing.target_host_id
    ]


def _addresses(alive: list[Any], running: list[Any], macs: list[Any]) -> list[str]:
    """Each NIC's address is allocated to its partition, and no partition has one that it does not use."""
    used = {nic.mac: partition for partition in alive for nic in partition.nics if not nic.mac.startswith("02:00:00")}
    coming = {mac for operation in running for mac in operation.context.macs_taken}
    held = {to_text(row.mac): row for row in macs if row.state == "allocated" and row.partition_id}
    broken = [
        f"the address {mac} of {partition.name} is not allocated to it"
        for mac, partition in used.items()
        if mac not in held or held[mac].partition_id != partition.id
    ]
    return broken + [
        f"the address {mac} is held by {row.partition_id}, which does not use it"
        for mac, row in held.items()
        if mac not in used and mac not in coming
    ]


def _gaps(plane: ControlPlane) -> list[str]:
    """The revision of each thing goes up by one with each event about it."""
    last: dict[UUID, int] = {}
    broken = []
    for subject, event in plane.events:
        match event:
            case PartitionEvent():
                view: Any = event.partition
            case HostEvent():
                view = event.host
            case OperationEvent():
                view = event.operation
            case _:
                continue
        expected = last.get(view.id, 0) + 1
        if view.revision != expected:
            broken.append(f"{subject} has revision {view.revision}, {expected} comes next")
        last[view.id] = view.revision
    return broken
