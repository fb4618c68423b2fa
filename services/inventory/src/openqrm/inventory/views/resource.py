"""Answers about resources: servers and partitions in one list."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from openqrm.contracts.errors import ConflictError, NotFoundError
from openqrm.contracts.ids import is_id
from openqrm.contracts.paging import Page
from openqrm.contracts.resource import GetResource, ListResources, ResourceKind, ResourceView
from openqrm.inventory.adapters.tables import hosts, resources
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import escape_like, page_of, read_page

_SELECT = select(resources, hosts.c.id.label("host_id")).outerjoin(hosts, hosts.c.id == resources.c.id)
_LIVE = resources.c.state.not_in(["deleted", "removed"])


def _view(row: Row[Any]) -> ResourceView:
    return ResourceView(
        id=row.id,
        kind=ResourceKind(row.kind),
        name=row.name,
        state=row.state,
        technology=row.technology,
        memory_mib=row.memory_mib,
        cpus=row.cpus,
        tags=tuple(row.tags),
        is_host=row.host_id is not None,
        created_at=row.created_at,
    )


async def get_resource(inventory: Inventory, query: GetResource) -> ResourceView:
    """One by id or name; a name that a server and a partition share needs the id."""
    ref = query.resource
    which = resources.c.id == UUID(ref) if is_id(ref) else resources.c.name == ref
    async with inventory.reading.transaction() as connection:
        rows = (await connection.execute(_SELECT.where(which, _LIVE))).all()
    if not rows:
        raise NotFoundError(f"There is no resource {ref!r}. List the resources to see which there are.")
    if len(rows) > 1:
        raise ConflictError(
            f"A server and a partition are both called {ref!r}. Use the id.", details={"ids": [str(r.id) for r in rows]}
        )
    return _view(rows[0])


async def list_resources(inventory: Inventory, query: ListResources) -> Page[ResourceView]:
    """A page of those that pass every filter."""
    statement = _SELECT.where(_LIVE)
    if query.kind is not None:
        statement = statement.where(resources.c.kind == query.kind.value)
    if query.tag is not None:
        statement = statement.where(resources.c.tags.contains([query.tag]))
    if query.name_contains is not None:
        statement = statement.where(resources.c.name.ilike(f"%{escape_like(query.name_contains)}%"))
    async with inventory.reading.transaction() as connection:
        read = await read_page(connection, statement, resources.c.name, resources.c.id, query.paging)
    items, cursor = page_of(read, map(_view, read.rows))
    return Page[ResourceView](items=items, next_cursor=cursor)
