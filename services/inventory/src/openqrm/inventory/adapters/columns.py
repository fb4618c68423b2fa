"""Columns as the hot paths read and write them: JSON stays text, which Pydantic reads and writes fastest."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, Text, Update, bindparam, cast, update
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert


def json_as_text(column: Column[Any]) -> ColumnElement[Any]:
    """The column under its own name; JSON not parsed, not even by the driver."""
    return cast(column, Text).label(column.name) if isinstance(column.type, JSONB) else column


def insert_columns(table: Table, *names: str) -> Insert:
    """An INSERT with a parameter per column, of the column's name."""
    return insert(table).values({name: bindparam(name) for name in names})


def update_columns(table: Table, *names: str) -> Update:
    """An UPDATE with a parameter per column, of the column's name; its WHERE is to be added."""
    return update(table).values({name: bindparam(name) for name in names})
