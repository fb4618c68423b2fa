"""What an operation needs a host for."""

from dataclasses import dataclass

from openqrm.contracts.partition import CreatePartition, MigratePartition
from openqrm.contracts.placement import PlacementRequest
from openqrm.contracts.technology import Capability
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.domain.partition import Partition
from openqrm.inventory.transaction import Transaction

EXPLAINED = 20
"""Hosts that an answer of the scheduler tells of one by one: as many as an error shows. More make it slower."""


@dataclass(frozen=True)
class Wanted:
    """A host for a command."""

    command: CreatePartition | MigratePartition
    request: PlacementRequest
    carrier: dict[str, str]
    """The trace that it belongs to."""


async def wanted_by(
    tx: Transaction, operation: Operation, partition: Partition, command: CreatePartition | MigratePartition
) -> Wanted:
    """What an operation needs. Raises NotFoundError when it names a host that is not there."""
    creating = isinstance(command, CreatePartition)
    only = (await tx.hosts.get_ref(command.host)).id if command.host is not None else None
    request = PlacementRequest(
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
        needs_shared_storage_with=None if creating or not partition.leaves_disks_behind else partition.host_id,
        explained=EXPLAINED,
    )
    return Wanted(command, request, operation.carrier)
