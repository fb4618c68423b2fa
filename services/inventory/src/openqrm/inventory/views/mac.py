"""Answers about MAC addresses and technologies."""

from sqlalchemy import func, select

from openqrm.contracts.mac import ListMacs, MacState, MacView
from openqrm.contracts.paging import Page
from openqrm.contracts.technology import (
    ListTechnologies,
    MacRange,
    Manifest,
    TechnologyList,
    TechnologyView,
)
from openqrm.inventory.adapters.tables import mac_addresses, technologies
from openqrm.inventory.domain.mac_ranges import to_text
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import page_of, read_page


async def list_macs(inventory: Inventory, query: ListMacs) -> Page[MacView]:
    """The addresses that are not free, in order."""
    statement = select(mac_addresses)
    if query.technology is not None:
        statement = statement.where(mac_addresses.c.technology == query.technology)
    if query.state is not None:
        statement = statement.where(mac_addresses.c.state == query.state.value)
    async with inventory.reading.transaction() as connection:
        column = mac_addresses.c.mac
        read = await read_page(connection, statement, column, column, query.paging)
    views = (
        MacView(
            mac=to_text(row.mac),
            technology=row.technology,
            state=MacState(row.state),
            partition_id=row.partition_id,
            note=row.note,
            changed_at=row.changed_at,
        )
        for row in read.rows
    )
    items, cursor = page_of(read, views)
    return Page[MacView](items=items, next_cursor=cursor)


async def list_technologies(inventory: Inventory, _query: ListTechnologies) -> TechnologyList:
    """All technologies, with how full their MAC namespaces are."""
    used = (
        select(technologies.c.name, func.count(mac_addresses.c.mac).label("used"))
        .outerjoin(mac_addresses, mac_addresses.c.mac.between(technologies.c.mac_first, technologies.c.mac_last))
        .group_by(technologies.c.name)
        .subquery()
    )
    statement = (
        select(technologies, used.c.used).join(used, used.c.name == technologies.c.name).order_by(technologies.c.name)
    )
    async with inventory.reading.transaction() as connection:
        rows = (await connection.execute(statement)).all()
    items = []
    for row in rows:
        has_range = row.mac_first is not None
        items.append(
            TechnologyView(
                name=row.name,
                title=row.title,
                available=row.manifest is not None,
                manifest=Manifest.model_validate(row.manifest) if row.manifest else None,
                mac_range=MacRange(first=to_text(row.mac_first), last=to_text(row.mac_last)) if has_range else None,
                macs_used=row.used,
                macs_free=row.mac_last - row.mac_first + 1 - row.used if has_range else 0,
            )
        )
    return TechnologyList(items=tuple(items))
