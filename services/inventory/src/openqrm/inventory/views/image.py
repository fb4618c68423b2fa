"""Answers about images."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.ids import is_id
from openqrm.contracts.image import GetImage, ImageView, ListImages
from openqrm.contracts.paging import Page
from openqrm.inventory.adapters.tables import images
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import page_of, read_page


def row_to_view(row: Row[Any]) -> ImageView:
    """An image from its row."""
    return ImageView.model_validate(dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's documented name


async def get_image(inventory: Inventory, query: GetImage) -> ImageView:
    """One by id or name."""
    ref = query.image
    which = images.c.id == UUID(ref) if is_id(ref) else images.c.name == ref
    async with inventory.reading.transaction() as connection:
        row = (await connection.execute(select(images).where(which))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no image {ref!r}. List the images to see which there are.")
    return row_to_view(row)


async def list_images(inventory: Inventory, query: ListImages) -> Page[ImageView]:
    """Images by name."""
    async with inventory.reading.transaction() as connection:
        read = await read_page(connection, select(images), images.c.name, images.c.id, query.paging)
    items, cursor = page_of(read, map(row_to_view, read.rows))
    return Page[ImageView](items=items, next_cursor=cursor)
