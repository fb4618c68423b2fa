"""The first tables: the whole vocabulary, even where later revisions bring the verbs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("letter", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_key"), "events", ["key"], unique=False)
    op.create_index(op.f("ix_events_published_at"), "events", ["published_at"], unique=False)
    op.create_table(
        "ha_pools",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hardware_profile", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ha_pools")),
        sa.UniqueConstraint("name", name=op.f("uq_ha_pools_name")),
    )
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_inbox")),
    )
    op.create_index(op.f("ix_inbox_handled_at"), "inbox", ["handled_at"], unique=False)
    op.create_table(
        "mac_addresses",
        sa.Column("mac", sa.BigInteger(), nullable=False),
        sa.Column("technology", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("partition_id", sa.UUID(), nullable=True),
        sa.Column("host_id", sa.UUID(), nullable=True, comment="Where a foreign address was seen"),
        sa.Column("request_id", sa.UUID(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("free_after", sa.DateTime(timezone=True), nullable=True, comment="End of the quarantine"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('allocated', 'quarantined', 'foreign')", name=op.f("ck_mac_addresses_state")),
        sa.PrimaryKeyConstraint("mac", name=op.f("pk_mac_addresses")),
        sa.UniqueConstraint("request_id", name=op.f("uq_mac_addresses_request_id")),
    )
    op.create_index("ix_mac_addresses_technology_state", "mac_addresses", ["technology", "state"], unique=False)
    op.create_table(
        "networks",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("bridge", sa.Text(), nullable=False),
        sa.Column("host_bridges", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("vlan", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("name", name=op.f("uq_networks_name")),
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("target_id", sa.UUID(), nullable=True),
        sa.Column("target_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "phase", sa.Text(), nullable=False, comment="What a running one waits for: placement, execution, children"
        ),
        sa.Column("progress", sa.Integer(), server_default="0", nullable=False),
        sa.Column("step", sa.Text(), server_default="", nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("trace_parent", sa.Text(), nullable=True),
        sa.Column("command", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "context",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="What to apply, keep or give back at its end",
        ),
        sa.Column("parent_id", sa.UUID(), nullable=True, comment="The operation that this one is a part of"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    op.create_index(
        "ix_operations_parent_id",
        "operations",
        ["parent_id"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index("ix_operations_state_id", "operations", ["state", "id"], unique=False)
    op.create_index("ix_operations_target_id_id", "operations", ["target_id", "id"], unique=False)
    op.create_index(
        "ix_operations_unfinished",
        "operations",
        ["touched_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'waiting', 'running')"),
    )
    op.create_index("ix_operations_verb_id", "operations", ["verb", "id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("history", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "resources",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("technology", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=True),
        sa.Column("cpus", sa.Integer(), nullable=True),
        sa.Column("operation_id", sa.UUID(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('physical', 'partition')", name=op.f("ck_resources_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resources")),
    )
    op.create_index(
        "ix_resources_kind_cpus_id",
        "resources",
        ["kind", "cpus", "id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('deleted', 'removed')"),
    )
    op.create_index(
        "ix_resources_kind_created_at_id",
        "resources",
        ["kind", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('deleted', 'removed')"),
    )
    op.create_index(
        "ix_resources_kind_memory_mib_id",
        "resources",
        ["kind", "memory_mib", "id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('deleted', 'removed')"),
    )
    op.create_index(
        "ix_resources_kind_name_id",
        "resources",
        ["kind", "name", "id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('deleted', 'removed')"),
    )
    op.create_index("ix_resources_kind_state_id", "resources", ["kind", "state", "id"], unique=False)
    op.create_index(
        "ix_resources_kind_technology_name_id", "resources", ["kind", "technology", "name", "id"], unique=False
    )
    op.create_index("ix_resources_tags", "resources", ["tags"], unique=False, postgresql_using="gin")
    op.create_index(
        "uq_resources_kind_name_live",
        "resources",
        ["kind", "name"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('deleted', 'removed')"),
    )
    op.create_table(
        "storages",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="nfs, iscsi, lvm, fc or directory"),
        sa.Column("connection", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storages")),
        sa.UniqueConstraint("name", name=op.f("uq_storages_name")),
    )
    op.create_table(
        "technologies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column(
            "manifest",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="None until an executor announced itself",
        ),
        sa.Column("mac_first", sa.BigInteger(), nullable=True, comment="None where guests have no MAC of their own"),
        sa.Column("mac_last", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("mac_first <= mac_last", name=op.f("ck_technologies_mac_range")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_technologies")),
    )
    op.create_table(
        "hosts",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("connection", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("usual_state", sa.Text(), nullable=False, comment="What it returns to when it answers again"),
        sa.Column("cpu_overcommit", sa.Float(), nullable=False),
        sa.Column("memory_overcommit", sa.Float(), nullable=False),
        sa.Column("memory_reserve_mib", sa.Integer(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cpus_reserved", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("memory_reserved_mib", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("partitions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "cpus_reserved >= 0 AND memory_reserved_mib >= 0 AND partitions >= 0", name=op.f("ck_hosts_reserved")
        ),
        sa.ForeignKeyConstraint(["id"], ["resources.id"], name=op.f("fk_hosts_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("virtual_size_mib", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("storage_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["storage_id"], ["storages.id"], name=op.f("fk_images_storage_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("name", name=op.f("uq_images_name")),
    )
    op.create_table(
        "ha_pool_members",
        sa.Column("pool_id", sa.UUID(), nullable=False),
        sa.Column("host_id", sa.UUID(), nullable=False),
        sa.Column("standby", sa.Boolean(), nullable=False, comment="Powered off until it is needed"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_ha_pool_members_host_id")),
        sa.ForeignKeyConstraint(["pool_id"], ["ha_pools.id"], name=op.f("fk_ha_pool_members_pool_id")),
        sa.PrimaryKeyConstraint("pool_id", "host_id", name=op.f("pk_ha_pool_members")),
        sa.UniqueConstraint("host_id", name=op.f("uq_ha_pool_members_host_id")),
    )
    op.create_table(
        "partitions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("desired_state", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("host_id", sa.UUID(), nullable=True),
        sa.Column("target_host_id", sa.UUID(), nullable=True),
        sa.Column("memory_max_mib", sa.Integer(), nullable=False),
        sa.Column("vcpus_max", sa.Integer(), nullable=False),
        sa.Column("cpu_pins", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("disks", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("nics", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column("firmware", sa.Text(), nullable=False),
        sa.Column("vnc", sa.Boolean(), nullable=False),
        sa.Column("host_tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("on_crash", sa.Text(), nullable=False),
        sa.Column(
            "crashes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
            comment="Times of the last crashes, ISO 8601",
        ),
        sa.Column("drift", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="By its executor's clock: older observations are ignored",
        ),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_partitions_host_id")),
        sa.ForeignKeyConstraint(["id"], ["resources.id"], name=op.f("fk_partitions_id")),
        sa.ForeignKeyConstraint(["target_host_id"], ["hosts.id"], name=op.f("fk_partitions_target_host_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partitions")),
    )
    op.create_index(op.f("ix_partitions_host_id"), "partitions", ["host_id"], unique=False)
    op.create_index(
        "ix_partitions_nics",
        "partitions",
        ["nics"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"nics": "jsonb_path_ops"},
    )
    op.create_table(
        "strangers",
        sa.Column("host_id", sa.UUID(), nullable=False),
        sa.Column("partition_id", sa.UUID(), nullable=False),
        sa.Column("observed", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_strangers_host_id")),
        sa.PrimaryKeyConstraint("host_id", "partition_id", name=op.f("pk_strangers")),
    )
    op.create_table(
        "virtual_environments",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("image_id", sa.UUID(), nullable=False),
        sa.Column(
            "requirement",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="CPU, memory, NICs, technology or any, tags",
        ),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="HA, priority, on-crash"),
        sa.Column("resource_id", sa.UUID(), nullable=True, comment="Where it is assigned now"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_virtual_environments_image_id")),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_virtual_environments_resource_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_virtual_environments")),
        sa.UniqueConstraint("name", name=op.f("uq_virtual_environments_name")),
    )
