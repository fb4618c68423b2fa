"""Answers about all placements at once."""

from sqlalchemy import bindparam, select

from openqrm.contracts.placement import ListPlacements, PlacedPartition, PlacementPage
from openqrm.contracts.resource import ResourceKind
from openqrm.inventory.adapters.tables import LIVE, partitions, resources
from openqrm.inventory.inventory import Inventory
from openqrm.persistence.connection import Statement

_every = (
    select(
        resources.c.id,
        resources.c.revision,
        resources.c.state,
        partitions.c.host_id,
        partitions.c.target_host_id,
        resources.c.memory_mib,
        resources.c.cpus.label("vcpus"),
    )
    .join(partitions, partitions.c.id == resources.c.id)
    .where(resources.c.kind == ResourceKind.PARTITION.value, LIVE)
    .order_by(resources.c.id)
    .limit(bindparam("limit"))
)
_FIRST = Statement(_every)
# Said of both tables: else each page reads the partitions' ids from the first on.
_AFTER = Statement(_every.where(resources.c.id > bindparam("after"), partitions.c.id > bindparam("after")))


async def list_placements(inventory: Inventory, query: ListPlacements) -> PlacementPage:
    """A page of them."""
    limit = query.limit
    async with inventory.reading.transaction() as connection:
        if query.after is None:
            rows = await connection.all(_FIRST, limit=limit)
        else:
            rows = await connection.all(_AFTER, after=query.after, limit=limit)
    items = tuple(PlacedPartition(**row) for row in rows)
    return PlacementPage(items=items, is_last=len(rows) < limit)
