"""The tables of inventory's schema: the whole vocabulary of docs/architecture.md."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from openqrm.persistence.inbox import inbox_table
from openqrm.persistence.outbox import events_table, outbox_table

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

outbox = outbox_table(metadata)
inbox = inbox_table(metadata)
events = events_table(metadata)

GONE = ("deleted", "removed")
"""States of what exists no more, and is kept to be looked up by its id."""

_GONE = "state NOT IN ('deleted', 'removed')"

LIVE = text(f"resources.{_GONE}")
"""Which resources still exist; word for word the condition of the indexes below, so that PostgreSQL uses them."""

resources = Table(
    "resources",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("technology", Text),
    Column("state", Text, nullable=False),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("memory_mib", Integer),
    Column("cpus", Integer),
    Column("operation_id", UUID(as_uuid=True)),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("kind IN ('physical', 'partition')", name="kind"),
    Index("uq_resources_kind_name_live", "kind", "name", unique=True, postgresql_where=text(_GONE)),
    Index("ix_resources_kind_name_id", "kind", "name", "id", postgresql_where=text(_GONE)),
    Index("ix_resources_kind_created_at_id", "kind", "created_at", "id", postgresql_where=text(_GONE)),
    Index("ix_resources_kind_state_id", "kind", "state", "id"),
    Index("ix_resources_kind_state_name_id", "kind", "state", "name", "id"),
    Index("ix_resources_kind_memory_mib_id", "kind", "memory_mib", "id", postgresql_where=text(_GONE)),
    Index("ix_resources_kind_cpus_id", "kind", "cpus", "id", postgresql_where=text(_GONE)),
    Index("ix_resources_kind_technology_name_id", "kind", "technology", "name", "id"),
    Index("ix_resources_tags", "tags", postgresql_using="gin"),
)
"""Anything that can run an operating system: physical servers and partitions in one list."""

hosts = Table(
    "hosts",
    metadata,
    Column("id", UUID(as_uuid=True), ForeignKey("resources.id"), primary_key=True),
    Column("connection", JSONB, nullable=False),
    Column("state_reason", Text, nullable=False, server_default=""),
    Column("usual_state", Text, nullable=False, comment="What it returns to when it answers again"),
    Column("cpu_overcommit", Float, nullable=False),
    Column("memory_overcommit", Float, nullable=False),
    Column("memory_reserve_mib", Integer, nullable=False),
    Column("facts", JSONB),
    Column("cpus_reserved", BigInteger, nullable=False, server_default="0"),
    Column("memory_reserved_mib", BigInteger, nullable=False, server_default="0"),
    Column("partitions", Integer, nullable=False, server_default="0"),
    Column("last_seen_at", DateTime(timezone=True)),
    CheckConstraint("cpus_reserved >= 0 AND memory_reserved_mib >= 0 AND partitions >= 0", name="reserved"),
    Index("ix_hosts_uri", text("(connection ->> 'uri')")),
)
"""The host role of a resource: it carries partitions of one technology."""

partitions = Table(
    "partitions",
    metadata,
    Column("id", UUID(as_uuid=True), ForeignKey("resources.id"), primary_key=True),
    Column("desired_state", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("host_id", UUID(as_uuid=True), ForeignKey("hosts.id"), index=True),
    Column("target_host_id", UUID(as_uuid=True), ForeignKey("hosts.id"), index=True),
    Column("memory_max_mib", Integer, nullable=False),
    Column("vcpus_max", Integer, nullable=False),
    Column("cpu_pins", JSONB, nullable=False, server_default="{}"),
    Column("disks", JSONB, nullable=False, server_default="[]"),
    Column("nics", JSONB, nullable=False, server_default="[]"),
    Column("firmware", Text, nullable=False),
    Column("vnc", Boolean, nullable=False),
    Column("host_tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("on_crash", Text, nullable=False),
    Column("crashes", JSONB, nullable=False, server_default="[]", comment="Times of the last crashes, ISO 8601"),
    Column("drift", JSONB, nullable=False, server_default="[]"),
    Column("seen_at", DateTime(timezone=True), comment="By its executor's clock: older observations are ignored"),
    Column("sightings", JSONB, nullable=False, server_default="{}", comment="By host: seen, and not yet judged"),
    Index("ix_partitions_nics", "nics", postgresql_using="gin", postgresql_ops={"nics": "jsonb_path_ops"}),
)
"""The partition part of a resource."""

strangers = Table(
    "strangers",
    metadata,
    Column("host_id", UUID(as_uuid=True), ForeignKey("hosts.id"), primary_key=True),
    Column("partition_id", UUID(as_uuid=True), primary_key=True),
    Column("observed", JSONB, nullable=False),
    Column("first_seen_at", DateTime(timezone=True), nullable=False),
    Index("ix_strangers_partition_id", "partition_id"),
)
"""Partitions seen on hosts that inventory did not make."""

networks = Table(
    "networks",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("bridge", Text, nullable=False),
    Column("host_bridges", JSONB, nullable=False, server_default="{}"),
    Column("vlan", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

technologies = Table(
    "technologies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("manifest", JSONB, comment="None until an executor announced itself"),
    Column("mac_first", BigInteger, comment="None where guests have no MAC of their own"),
    Column("mac_last", BigInteger),
    CheckConstraint("mac_first <= mac_last", name="mac_range"),
)

mac_addresses = Table(
    "mac_addresses",
    metadata,
    Column("mac", BigInteger, primary_key=True),
    Column("technology", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("partition_id", UUID(as_uuid=True)),
    Column("host_id", UUID(as_uuid=True), comment="Where a foreign address was seen"),
    Column("request_id", UUID(as_uuid=True), unique=True),
    Column("note", Text, nullable=False, server_default=""),
    Column("free_after", DateTime(timezone=True), comment="End of the quarantine"),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("state IN ('allocated', 'quarantined', 'foreign')", name="state"),
    Index("ix_mac_addresses_technology_state", "technology", "state"),
)
"""Every address that is not free."""

storages = Table(
    "storages",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False, comment="nfs, iscsi, lvm, fc or directory"),
    Column("connection", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
"""Servers and pools that hold images and volumes."""

images = Table(
    "images",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("virtual_size_mib", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("storage_id", UUID(as_uuid=True), ForeignKey("storages.id")),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

virtual_environments = Table(
    "virtual_environments",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("image_id", UUID(as_uuid=True), ForeignKey("images.id"), nullable=False),
    Column("requirement", JSONB, nullable=False, comment="CPU, memory, NICs, technology or any, tags"),
    Column("policy", JSONB, nullable=False, comment="HA, priority, on-crash"),
    Column("resource_id", UUID(as_uuid=True), ForeignKey("resources.id"), comment="Where it is assigned now"),
    Column("state", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
"""Services: an image, what it needs, a policy, and the resource that runs it now."""

ha_pools = Table(
    "ha_pools",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("name", Text, nullable=False, unique=True),
    Column("hardware_profile", JSONB, nullable=False),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

ha_pool_members = Table(
    "ha_pool_members",
    metadata,
    Column("pool_id", UUID(as_uuid=True), ForeignKey("ha_pools.id"), primary_key=True),
    Column("host_id", UUID(as_uuid=True), ForeignKey("hosts.id"), primary_key=True),
    Column("standby", Boolean, nullable=False, comment="Powered off until it is needed"),
    UniqueConstraint("host_id"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("verb", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_id", UUID(as_uuid=True)),
    Column("target_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False, comment="What a running one waits for: placement, execution, children"),
    Column("progress", Integer, nullable=False, server_default="0"),
    Column("step", Text, nullable=False, server_default=""),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("error", JSONB),
    Column("result", JSONB, nullable=False, server_default="{}"),
    Column("requested_by", Text, nullable=False),
    Column("trace_id", Text),
    Column("trace_parent", Text),
    Column("command", JSONB, nullable=False),
    Column(
        "context", JSONB, nullable=False, server_default="{}", comment="What to apply, keep or give back at its end"
    ),
    Column("parent_id", UUID(as_uuid=True), comment="The operation that this one is a part of"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("touched_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("ix_operations_created_at_id", "created_at", "id"),
    Index("ix_operations_target_id_created_at_id", "target_id", "created_at", "id"),
    Index("ix_operations_state_created_at_id", "state", "created_at", "id"),
    Index("ix_operations_verb_created_at_id", "verb", "created_at", "id"),
    Index("ix_operations_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    Index(
        "ix_operations_unfinished",
        "touched_at",
        postgresql_where=text("state IN ('queued', 'waiting', 'running')"),
    ),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("letter", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_dead_letters_created_at_id", "created_at", "id"),
)

streams = Table(
    "streams",
    metadata,
    Column("name", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
)
"""What NATS had when inventory looked last; see `bus_watch.py`."""
