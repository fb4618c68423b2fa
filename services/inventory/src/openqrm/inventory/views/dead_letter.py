"""Answers about dead letters."""

from sqlalchemy import select

from openqrm.contracts.dead_letter import DeadLetter, ListDeadLetters
from openqrm.contracts.paging import Page
from openqrm.inventory.adapters.tables import dead_letters
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import read_page


async def list_dead_letters(inventory: Inventory, query: ListDeadLetters) -> Page[DeadLetter]:
    """Those that were neither replayed nor discarded."""
    async with inventory.database.transaction() as connection:
        column = dead_letters.c.id
        rows, cursor = await read_page(connection, select(dead_letters), column, column, query.paging)
    return Page[DeadLetter](items=tuple(DeadLetter.model_validate(row.letter) for row in rows), next_cursor=cursor)
