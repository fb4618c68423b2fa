"""Failed logins, counted for all replicas together."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "login_failures",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("last_at", moment, nullable=False, index=True),
        sa.Column("wait_until", moment, nullable=False),
        schema="gateway",
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("login_failures", schema="gateway")
