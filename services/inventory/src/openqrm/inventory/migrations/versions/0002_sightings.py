"""What was seen and not yet judged; operations listed by time; a host's address is found without reading them all."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FILTERS = ("target_id", "state", "verb")


def upgrade() -> None:
    """Add them."""
    op.add_column(
        "partitions",
        sa.Column(
            "sightings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="By host: seen, and not yet judged",
        ),
    )
    op.create_index(op.f("ix_partitions_target_host_id"), "partitions", ["target_host_id"])
    op.create_index("ix_resources_kind_state_name_id", "resources", ["kind", "state", "name", "id"])
    op.create_index("ix_hosts_uri", "hosts", [sa.text("(connection ->> 'uri')")])
    op.create_index("ix_strangers_partition_id", "strangers", ["partition_id"])
    op.create_index("ix_dead_letters_created_at_id", "dead_letters", ["created_at", "id"])
    # Ids are chosen by callers, so that their order is not the order of time.
    op.create_index("ix_operations_created_at_id", "operations", ["created_at", "id"])
    for column in _FILTERS:
        op.drop_index(f"ix_operations_{column}_id", table_name="operations")
        op.create_index(f"ix_operations_{column}_created_at_id", "operations", [column, "created_at", "id"])
