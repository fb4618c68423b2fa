"""Inbox: remembers which messages were handled, in the same transaction as what they changed."""

from sqlalchemy import Column, DateTime, MetaData, Table, Text, delete, func, text

from openqrm.persistence.connection import Connection, Statement

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


NOTE = Statement(text("INSERT INTO inbox (message_id) VALUES (:message_id) ON CONFLICT DO NOTHING"))
"""Notes a message as handled; changes nothing if it was handled before."""

NOTE_ALL = Statement(
    text(
        "INSERT INTO inbox (message_id) SELECT unnest(CAST(:message_ids AS text[])) "
        "ON CONFLICT DO NOTHING RETURNING message_id"
    )
)
"""Notes messages as handled, and returns those that were not before. In the order given, so sort them: two that note
the same ones wait for each other."""


async def forget_old(connection: Connection, table: Table) -> None:
    """Drop entries that no delivery can ask for any more."""
    await connection.execute(delete(table).where(table.c.handled_at < func.now() - text(f"interval '{KEPT}'")))
