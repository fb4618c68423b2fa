"""Answers about partitions."""

from uuid import UUID

from sqlalchemy import Row, select

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.ids import is_id
from openqrm.contracts.paging import Page
from openqrm.contracts.partition import (
    GetPartition,
    GetPlacement,
    ListPartitions,
    ListStrangers,
    ObservedPartition,
    PartitionSort,
    PartitionView,
    Placement,
    StrangerView,
)
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import PartitionState
from openqrm.inventory.adapters.hosts import read_host_ref
from openqrm.inventory.adapters.partitions import read_networks, row_to_partition, select_partitions
from openqrm.inventory.adapters.tables import partitions, resources, strangers
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import escape_like, page_of, read_page

_SORT = {
    PartitionSort.NAME: resources.c.name,
    PartitionSort.CREATED_AT: resources.c.created_at,
    PartitionSort.STATE: resources.c.state,
    PartitionSort.MEMORY: resources.c.memory_mib,
    PartitionSort.VCPUS: resources.c.cpus,
}


async def get_partition(inventory: Inventory, query: GetPartition) -> PartitionView:
    """One by id, deleted ones included, or by name."""
    ref = query.partition
    async with inventory.reading.transaction() as connection:
        statement = select_partitions().where(resources.c.kind == ResourceKind.PARTITION.value)
        if is_id(ref):
            statement = statement.where(resources.c.id == UUID(ref))
        else:
            statement = statement.where(
                resources.c.name == ref, resources.c.state.not_in([PartitionState.DELETED.value, "removed"])
            )
        row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(
                f"There is no partition {ref!r}. List the partitions to see which there are.",
                details={"partition": ref},
            )
        partition = row_to_partition(row)
        networks = await read_networks(connection, (nic.network_id for nic in partition.nics))
    return partition.view(networks)


async def list_partitions(inventory: Inventory, query: ListPartitions) -> Page[PartitionView]:
    """A page of those that pass every filter."""
    statement = select_partitions().where(resources.c.kind == ResourceKind.PARTITION.value)
    if query.state is not None:
        statement = statement.where(resources.c.state == query.state.value)
    if query.state is not PartitionState.DELETED:
        statement = statement.where(resources.c.state.not_in(["deleted", "removed"]))
    if query.technology is not None:
        statement = statement.where(resources.c.technology == query.technology)
    if query.tag is not None:
        statement = statement.where(resources.c.tags.contains([query.tag]))
    if query.name_contains is not None:
        statement = statement.where(resources.c.name.ilike(f"%{escape_like(query.name_contains)}%"))
    async with inventory.reading.transaction() as connection:
        if query.host is not None:
            host = await read_host_ref(connection, query.host)
            statement = statement.where(partitions.c.host_id == host.id)
        read = await read_page(connection, statement, _SORT[query.sort], resources.c.id, query.paging)
        found = [row_to_partition(row) for row in read.mappings]
        networks = await read_networks(connection, (nic.network_id for p in found for nic in p.nics))
    items, cursor = page_of(read, (partition.view(networks) for partition in found))
    return Page[PartitionView](items=items, next_cursor=cursor)


async def list_strangers(inventory: Inventory, query: ListStrangers) -> Page[StrangerView]:
    """Partitions seen on hosts that inventory did not make."""
    statement = select(strangers, resources.c.name.label("host_name")).join(
        resources, resources.c.id == strangers.c.host_id
    )
    async with inventory.reading.transaction() as connection:
        if query.host is not None:
            host = await read_host_ref(connection, query.host)
            statement = statement.where(strangers.c.host_id == host.id)
        read = await read_page(connection, statement, strangers.c.partition_id, strangers.c.host_id, query.paging)
    items, cursor = page_of(read, map(_stranger, read.rows))
    return Page[StrangerView](items=items, next_cursor=cursor)


def _stranger(row: Row[tuple[object, ...]]) -> StrangerView:
    return StrangerView(
        host_id=row.host_id,
        host_name=row.host_name,
        observed=ObservedPartition.model_validate(row.observed),
        first_seen_at=row.first_seen_at,
    )


async def get_placement(inventory: Inventory, query: GetPlacement) -> Placement:
    """Where a partition is placed now, and with which epoch."""
    statement = select(partitions.c.epoch, partitions.c.host_id, partitions.c.target_host_id).where(
        partitions.c.id == query.partition_id
    )
    async with inventory.reading.transaction() as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no partition {query.partition_id}.")
    return Placement(
        partition_id=query.partition_id, epoch=row.epoch, host_id=row.host_id, target_host_id=row.target_host_id
    )
