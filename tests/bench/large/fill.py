"""Loads inventory's tables with a large data centre, by SQL, while nobody else writes there.

The hosts are of technologies that no executor runs for (xen and vserver), so that inventory, scheduler and gateway
carry them, and no executor reports that they are not there. Each partition has a disk and a NIC, as usual. It is loaded
in steps: the tables grow from one size to the next. Afterwards the scheduler has to be started anew.
"""

import json
from dataclasses import dataclass

import asyncpg

from openqrm.contracts.host import HostFacts, HostStorage

OPERATIONS_PER_PARTITION = 1


@dataclass(frozen=True)
class Size:
    """How large a data centre is."""

    hosts: int
    partitions: int

    def __str__(self) -> str:
        return f"{self.hosts:,} hosts, {self.partitions:,} partitions"


EMPTY = Size(0, 0)
SIZES = (Size(100, 1_000), Size(1_000, 10_000), Size(10_000, 100_000))

_HOST_RESOURCES = """
INSERT INTO resources (id, kind, name, technology, state, tags, memory_mib, cpus, revision, created_at, updated_at)
SELECT CAST('1' || lpad(to_hex(i), 31, '0') AS uuid), 'physical', 'host ' || lpad(i::text, 6, '0'),
    CASE WHEN i % 3 = 0 THEN 'xen' ELSE 'vserver' END, CASE WHEN i % 100 = 0 THEN 'unreachable' ELSE 'ready' END,
    ARRAY['rack ' || i % 50], 262144, 64, 1, now() - make_interval(secs => i), now()
FROM generate_series($1::int + 1, $2::int) AS i
"""
_HOSTS = """
INSERT INTO hosts (id, connection, usual_state, cpu_overcommit, memory_overcommit, memory_reserve_mib, facts,
    cpus_reserved, memory_reserved_mib, partitions)
SELECT CAST('1' || lpad(to_hex(i), 31, '0') AS uuid), jsonb_build_object('uri', 'xen://host' || i), 'ready', 4, 1, 512,
    $3::jsonb, 0, 0, 0
FROM generate_series($1::int + 1, $2::int) AS i
"""
_PARTITION_RESOURCES = """
INSERT INTO resources (id, kind, name, technology, state, tags, memory_mib, cpus, revision, created_at, updated_at)
SELECT CAST('a' || lpad(to_hex(i), 31, '0') AS uuid), 'partition',
    'partition ' || lpad((i::bigint * 7919 % 1000003)::text, 7, '0'),
    CASE WHEN (1 + i % $3::int) % 3 = 0 THEN 'xen' ELSE 'vserver' END,
    CASE WHEN i % 1000 = 0 THEN 'crashed' WHEN i % 4 = 0 THEN 'stopped' WHEN i % 11 = 0 THEN 'deleted'
        ELSE 'running' END,
    ARRAY['all', 'customer ' || i % 1000], 256 * (1 + i % 64), 1 + i % 16, 1, now() - make_interval(secs => i), now()
FROM generate_series($1::int + 1, $2::int) AS i
"""
_PARTITIONS = """
INSERT INTO partitions (id, desired_state, epoch, host_id, memory_max_mib, vcpus_max, firmware, vnc, on_crash,
    disks, nics)
SELECT CAST('a' || lpad(to_hex(i), 31, '0') AS uuid), 'running', 1,
    CAST('1' || lpad(to_hex(1 + i % $3::int), 31, '0') AS uuid), 65536, 32, 'bios', true, 'restart',
    jsonb_build_array(jsonb_build_object('id', CAST('d' || lpad(to_hex(i), 31, '0') AS uuid), 'target', 'vda',
        'source', jsonb_build_object('kind', 'blank', 'size_mib', 8192), 'bus', 'virtio', 'read_only', false)),
    jsonb_build_array(jsonb_build_object('id', CAST('e' || lpad(to_hex(i), 31, '0') AS uuid), 'network_id', $4::text,
        'mac', '02:ff:' || regexp_replace(lpad(to_hex(i), 8, '0'), '(..)(..)(..)(..)', '\\1:\\2:\\3:\\4'),
        'model', 'virtio'))
FROM generate_series($1::int + 1, $2::int) AS i
"""
_OPERATIONS = """
INSERT INTO operations (id, revision, verb, target_kind, target_id, target_name, state, phase, requested_by, command,
    created_at, touched_at, ended_at)
SELECT CAST('b' || lpad(to_hex(i), 31, '0') AS uuid), 1,
    CASE WHEN i % 500 = 0 THEN 'host.prepare' ELSE 'partition.start' END, 'partition',
    CAST('a' || lpad(to_hex(1 + i % 1000), 31, '0') AS uuid), 'x',
    CASE WHEN i % 999 = 0 THEN 'failed' ELSE 'succeeded' END, 'done', 'me', '{}',
    now() - make_interval(secs => i), now(), now()
FROM generate_series($1::int + 1, $2::int) AS i
"""


def _facts() -> str:
    facts = HostFacts(
        hostname="host",
        architecture="x86_64",
        cpu_model="EPYC",
        cpus=64,
        memory_mib=262144,
        bridges=("br0", "br1"),
        storages=(HostStorage(name="disks", path="/var/lib/openqrm", total_mib=4_000_000, free_mib=2_000_000),),
    )
    return json.dumps(facts.model_dump(mode="json"))


async def grow(database: "asyncpg.Connection[asyncpg.Record]", before: Size, size: Size) -> None:
    """Load what is missing between two sizes; the first network must be there."""
    await database.execute("SET search_path TO inventory")
    network = str(await database.fetchval("SELECT id FROM networks ORDER BY created_at LIMIT 1"))
    async with database.transaction():
        await database.execute(_HOST_RESOURCES, before.hosts, size.hosts)
        await database.execute(_HOSTS, before.hosts, size.hosts, _facts())
        await database.execute(_PARTITION_RESOURCES, before.partitions, size.partitions, size.hosts)
        await database.execute(_PARTITIONS, before.partitions, size.partitions, size.hosts, network)
        await database.execute(_OPERATIONS, before.partitions, size.partitions)
    await database.execute("VACUUM ANALYZE resources, hosts, partitions, operations")
