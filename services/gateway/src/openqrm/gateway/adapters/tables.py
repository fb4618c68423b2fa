"""The tables of schema `gateway`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY

SCHEMA = "gateway"

metadata = MetaData(schema=SCHEMA)


def _moment(name: str, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),  # names that differ by case only would be mistaken
    Column("role", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("remote", Text, nullable=False),
    Column("agent", Text, nullable=False),
    _moment("created_at"),
    _moment("expires_at"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("nouns", ARRAY(Text), nullable=False),
    _moment("created_at"),
    _moment("expires_at"),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False, index=True),
    _moment("wait_until"),
)

console_tickets = Table(
    "console_tickets",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("partition_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    _moment("expires_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _moment("at"),
    Column("user_name", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("operation_id", Uuid),
    Column("status", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("remote", Text, nullable=False),
    Column("trace_id", Text),
    Index("ix_audit_user_name", "user_name", "id"),
)
