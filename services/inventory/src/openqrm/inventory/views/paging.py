"""Keyset pages: the cursor holds the sort value and the id of the last item, so that any page costs the same."""

import base64
import binascii
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Row, Select, and_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.contracts.paging import Paging


def escape_like(text: str) -> str:
    """A text as a pattern of LIKE that means just itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


async def read_page(
    connection: AsyncConnection,
    statement: Select[Any],
    sort: Column[Any],
    identity: Column[Any],
    paging: Paging,
) -> tuple[list[Row[Any]], str | None]:
    """The rows of one page, and the cursor of the next one."""
    if paging.cursor is not None:
        value, last_id = _decode(paging.cursor, sort, identity)
        statement = statement.where(_after(sort, identity, value, last_id, paging.descending))
    columns = [identity] if sort is identity else [sort, identity]
    order = [column.desc() if paging.descending else column.asc() for column in columns]
    rows = list((await connection.execute(statement.order_by(*order).limit(paging.limit + 1))).all())
    if len(rows) <= paging.limit:
        return rows, None
    rows = rows[: paging.limit]
    last = rows[-1]._mapping  # noqa: SLF001 - SQLAlchemy's documented name
    return rows, _encode(sort, last[sort], last[identity])


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
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidError(
            "This cursor is not one of this list with this sort. Begin again without a cursor.",
            fields=(FieldProblem(field="cursor", message="not a cursor of this list and sort"),),
        ) from error


def _parse(column: Column[Any], value: Any) -> Any:
    kind = column.type.python_type
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is int:
        return int(value)
    return kind(value)
