"""Answers about dead letters."""

from sqlalchemy import select

from openqrm.contracts.dead_letter import DeadLetter, ListDeadLetters
from openqrm.contracts.paging import Page
from openqrm.inventory.adapters.tables import dead_letters
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import page_of, read_page


async def list_dead_letters(inventory: Inventory, query: ListDeadLetters) -> Page[DeadLetter]:
    """Those that were neither replayed nor discarded."""
    async with inventory.reading.transaction() as connection:
        read = await read_page(
            connection, select(dead_letters), dead_letters.c.created_at, dead_letters.c.id, query.paging
        )
    items, cursor = page_of(read, (DeadLetter.model_validate(row.letter) for row in read.rows))
    return Page[DeadLetter](items=items, next_cursor=cursor)
