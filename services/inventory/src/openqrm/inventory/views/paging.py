"""Keyset pages: the cursor holds the sort value and the id of the last item, so that any page costs the same."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Column, Row, RowMapping, Select, and_, or_

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.paging import Paging
from openqrm.persistence.connection import Connection

Item = TypeVar("Item", bound=BaseModel)

LARGEST_PAGE_BYTES = 800_000
"""NATS takes 1 MiB; a page that would be larger ends earlier."""


def escape_like(text: str) -> str:
    """A text as a pattern of LIKE that means just itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


@dataclass(frozen=True)
class PageRows:
    """The rows of one page, and what it takes to make the next one's cursor."""

    rows: list[Row[Any]]
    sort: Column[Any]
    identity: Column[Any]
    is_last: bool

    @property
    def mappings(self) -> list[RowMapping]:
        """The rows by the names of their columns."""
        return [row._mapping for row in self.rows]  # noqa: SLF001 - SQLAlchemy's documented name

    def cursor_after(self, count: int) -> str:
        """Where a page begins that follows the first so many rows."""
        last = self.rows[count - 1]._mapping  # noqa: SLF001 - SQLAlchemy's documented name
        return _encode(self.sort, last[self.sort], last[self.identity])


def page_of(read: PageRows, items: Iterable[Item]) -> tuple[tuple[Item, ...], str | None]:
    """The items of a page, one for each row, as many as fit into one message; and the cursor of the next page."""
    kept: list[Item] = []
    size = 0
    for item in items:
        size += len(item.model_dump_json().encode())
        if kept and size > LARGEST_PAGE_BYTES:
            break
        kept.append(item)
    if read.is_last and len(kept) == len(read.rows):
        return tuple(kept), None
    return tuple(kept), read.cursor_after(len(kept))


async def read_page(
    connection: Connection,
    statement: Select[Any],
    sort: Column[Any],
    identity: Column[Any],
    paging: Paging,
) -> PageRows:
    """The rows of one page, and what the next one begins after."""
    if paging.cursor is not None:
        value, last_id = _decode(paging.cursor, sort, identity)
        statement = statement.where(_after(sort, identity, value, last_id, paging.descending))
    columns = [identity] if sort is identity else [sort, identity]
    order = [column.desc() if paging.descending else column.asc() for column in columns]
    rows = list((await connection.execute(statement.order_by(*order).limit(paging.limit + 1))).all())
    return PageRows(rows[: paging.limit], sort, identity, is_last=len(rows) <= paging.limit)


def _after(sort: Column[Any], identity: Column[Any], value: Any, last_id: Any, descending: bool) -> Any:
    if sort is identity:
        return identity < last_id if descending else identity > last_id
    # Written out, rather than as a row comparison, so that PostgreSQL bounds the index scan by the first column.
    if descending:
        return and_(sort <= value, or_(sort < value, identity < last_id))
    return and_(sort >= value, or_(sort > value, identity > last_id))


def _encode(sort: Column[Any], value: Any, identity: Any) -> str:
    plain = value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
    raw = json.dumps([sort.name, plain, str(identity)]).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(cursor: str, sort: Column[Any], identity: Column[Any]) -> tuple[Any, Any]:
    try:
        name, value, last_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if name != sort.name:
            raise ValueError("another sort")
        return _parse(sort, value), _parse(identity, last_id)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error) as error:
        raise InvalidError(
            "This cursor is not one of this list with this sort. Begin again without a cursor.",
            fields=(FieldProblem(field="cursor", message="not a cursor of this list and sort"),),
        ) from error


def _parse(column: Column[Any], value: Any) -> Any:
    kind = column.type.python_type
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        return moment
    if kind is int:
        return int(value)
    return kind(value)
