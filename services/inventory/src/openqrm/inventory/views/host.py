"""Answers about hosts."""

from uuid import UUID

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.host import GetHost, HostSort, HostView, ListHosts
from openqrm.contracts.ids import is_id
from openqrm.contracts.paging import Page
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import HostState
from openqrm.inventory.adapters.hosts import row_to_host, select_hosts
from openqrm.inventory.adapters.tables import resources
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import escape_like, page_of, read_page

_SORT = {
    HostSort.NAME: resources.c.name,
    HostSort.CREATED_AT: resources.c.created_at,
    HostSort.STATE: resources.c.state,
}


async def get_host(inventory: Inventory, query: GetHost) -> HostView:
    """One by id, removed ones included, or by name."""
    ref = query.host
    statement = select_hosts().where(resources.c.kind == ResourceKind.PHYSICAL.value)
    if is_id(ref):
        statement = statement.where(resources.c.id == UUID(ref))
    else:
        statement = statement.where(
            resources.c.name == ref, resources.c.state.not_in(["deleted", HostState.REMOVED.value])
        )
    async with inventory.reading.transaction() as connection:
        row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no host {ref!r}. List the hosts to see which there are.", details={"host": ref})
    return row_to_host(row).view()


async def list_hosts(inventory: Inventory, query: ListHosts) -> Page[HostView]:
    """A page of those that pass every filter."""
    statement = select_hosts().where(resources.c.kind == ResourceKind.PHYSICAL.value)
    if query.state is not None:
        statement = statement.where(resources.c.state == query.state.value)
    if query.state is not HostState.REMOVED:
        statement = statement.where(resources.c.state.not_in(["deleted", "removed"]))
    if query.technology is not None:
        statement = statement.where(resources.c.technology == query.technology)
    if query.tag is not None:
        statement = statement.where(resources.c.tags.contains([query.tag]))
    if query.name_contains is not None:
        statement = statement.where(resources.c.name.ilike(f"%{escape_like(query.name_contains)}%"))
    async with inventory.reading.transaction() as connection:
        read = await read_page(connection, statement, _SORT[query.sort], resources.c.id, query.paging)
    items, cursor = page_of(read, (row_to_host(row).view() for row in read.mappings))
    return Page[HostView](items=items, next_cursor=cursor)
