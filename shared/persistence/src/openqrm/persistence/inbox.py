"""Inbox: remembers which messages were handled, in the same transaction as what they changed."""

from sqlalchemy import Column, DateTime, MetaData, Table, Text, delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

KEPT = "3 days"
"""Longer than any stream of ours delivers a message again."""


def inbox_table(metadata: MetaData) -> Table:
    """The inbox table of a schema."""
    return Table(
        "inbox",
        metadata,
        Column("message_id", Text, primary_key=True),
        Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
    )


async def is_new(connection: AsyncConnection, table: Table, message_id: str) -> bool:
    """Note a message as handled; False if it was handled before."""
    statement = insert(table).values(message_id=message_id).on_conflict_do_nothing()
    return (await connection.execute(statement)).rowcount == 1


async def forget_old(connection: AsyncConnection, table: Table) -> None:
    """Drop entries that no delivery can ask for any more."""
    await connection.execute(delete(table).where(table.c.handled_at < func.now() - text(f"interval '{KEPT}'")))
