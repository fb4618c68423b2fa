"""Answers about networks."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.ids import is_id
from openqrm.contracts.network import GetNetwork, ListNetworks, NetworkView
from openqrm.contracts.paging import Page
from openqrm.inventory.adapters.tables import networks
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import page_of, read_page


def row_to_view(row: Row[Any]) -> NetworkView:
    """A network from its row."""
    return NetworkView.model_validate(dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's documented name


async def get_network(inventory: Inventory, query: GetNetwork) -> NetworkView:
    """One by id or name."""
    ref = query.network
    which = networks.c.id == UUID(ref) if is_id(ref) else networks.c.name == ref
    async with inventory.reading.transaction() as connection:
        row = (await connection.execute(select(networks).where(which))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no network {ref!r}. List the networks to see which there are.")
    return row_to_view(row)


async def list_networks(inventory: Inventory, query: ListNetworks) -> Page[NetworkView]:
    """Networks by name."""
    async with inventory.reading.transaction() as connection:
        read = await read_page(connection, select(networks), networks.c.name, networks.c.id, query.paging)
    items, cursor = page_of(read, map(row_to_view, read.rows))
    return Page[NetworkView](items=items, next_cursor=cursor)
