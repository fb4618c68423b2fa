"""Partitions in PostgreSQL."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Select, any_, bindparam, exists, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE

from openqrm.contracts.errors import NotFoundError, TemporaryError
from openqrm.contracts.ids import is_id
from openqrm.contracts.partition import CrashPolicy, DiskDefinition, Drift, Firmware
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import DesiredState, OperationState, PartitionState
from openqrm.inventory.adapters.columns import insert_columns, json_as_text, update_columns
from openqrm.inventory.adapters.tables import LIVE, networks, operations, partitions, resources
from openqrm.inventory.adapters.writes import Write, Writes
from openqrm.inventory.domain.partition import Network, Nic, Partition, Sighting
from openqrm.persistence.connection import Connection, Statement

_CRASHES = TypeAdapter(list[str])
_DISKS = TypeAdapter(list[DiskDefinition])
_DRIFT = TypeAdapter(tuple[Drift, ...])
_HOST_BRIDGES = TypeAdapter(dict[UUID, str])
_NICS = TypeAdapter(list[Nic])
_PINS = TypeAdapter(dict[int, tuple[int, ...]])
_SIGHTINGS = TypeAdapter(dict[UUID, Sighting])

_host = resources.alias("host")


def select_partitions() -> Select[Any]:
    """Everything that a Partition is made of, by `row_to_partition`."""
    return (
        select(
            resources,
            *(json_as_text(column) for column in partitions.c if column.name != "id"),
            _host.c.name.label("host_name"),
        )
        .join(partitions, partitions.c.id == resources.c.id)
        .outerjoin(_host, _host.c.id == partitions.c.host_id)
    )


def select_networks() -> Select[Any]:
    """Everything that a Network is made of, by `row_to_network`."""
    return select(
        networks.c.id, networks.c.name, networks.c.bridge, json_as_text(networks.c.host_bridges), networks.c.vlan
    )


def row_to_partition(row: Mapping[Any, Any]) -> Partition:
    """A Partition from a row of `select_partitions`."""
    return Partition(
        id=row["id"],
        revision=row["revision"],
        saved_revision=row["revision"],
        name=row["name"],
        technology=row["technology"],
        state=PartitionState(row["state"]),
        desired_state=DesiredState(row["desired_state"]),
        epoch=row["epoch"],
        host_id=row["host_id"],
        host_name=row["host_name"],
        target_host_id=row["target_host_id"],
        memory_mib=row["memory_mib"],
        memory_max_mib=row["memory_max_mib"],
        vcpus=row["cpus"],
        vcpus_max=row["vcpus_max"],
        cpu_pins=_PINS.validate_json(row["cpu_pins"]),
        disks=_DISKS.validate_json(row["disks"]),
        nics=_NICS.validate_json(row["nics"]),
        firmware=Firmware(row["firmware"]),
        vnc=row["vnc"],
        tags=tuple(row["tags"]),
        host_tags=tuple(row["host_tags"]),
        on_crash=CrashPolicy(row["on_crash"]),
        operation_id=row["operation_id"],
        drift=_DRIFT.validate_json(row["drift"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        crashes=_CRASHES.validate_json(row["crashes"]),
        seen_at=row["seen_at"],
        sightings=_SIGHTINGS.validate_json(row["sightings"]),
    )


def _resource_values(partition: Partition) -> dict[str, Any]:
    return {
        "id": partition.id,
        "name": partition.name,
        "technology": partition.technology,
        "state": partition.state.value,
        "tags": partition.tags,
        "memory_mib": partition.memory_mib,
        "cpus": partition.vcpus,
        "operation_id": partition.operation_id,
        "revision": partition.revision,
        "updated_at": partition.updated_at,
    }


def _partition_values(partition: Partition) -> dict[str, Any]:
    return {
        "id": partition.id,
        "desired_state": partition.desired_state.value,
        "epoch": partition.epoch,
        "host_id": partition.host_id,
        "target_host_id": partition.target_host_id,
        "memory_max_mib": partition.memory_max_mib,
        "vcpus_max": partition.vcpus_max,
        "cpu_pins": _PINS.dump_json(partition.cpu_pins).decode(),
        "disks": _DISKS.dump_json(partition.disks).decode(),
        "nics": _NICS.dump_json(partition.nics).decode(),
        "firmware": partition.firmware.value,
        "vnc": partition.vnc,
        "host_tags": partition.host_tags,
        "on_crash": partition.on_crash.value,
        "crashes": _CRASHES.dump_json(partition.crashes).decode(),
        "seen_at": partition.seen_at,
        "sightings": _SIGHTINGS.dump_json(partition.sightings).decode(),
        "drift": _DRIFT.dump_json(partition.drift).decode(),
    }


_LIVE_PARTITION = (resources.c.kind == ResourceKind.PARTITION.value, LIVE)
_BY_ID = resources.c.id == bindparam("id")
_BY_NAME = resources.c.name == bindparam("name")
_IDS = bindparam("ids", type_=ARRAY(UUID_TYPE(as_uuid=True)))
_lock = select(resources.c.id).with_for_update(key_share=True)

_has_queue = exists().where(operations.c.target_id == resources.c.id, operations.c.state == OperationState.QUEUED.value)
_GET = Statement(select_partitions().add_columns(_has_queue.label("has_queue")).where(_BY_ID))
_GET_ALL = Statement(select_partitions().where(resources.c.id == any_(_IDS)))
_LOCK = Statement(_lock.where(_BY_ID))
_LOCK_ALL = Statement(_lock.where(resources.c.id == any_(_IDS)).order_by(resources.c.id))
_LOCK_LIVE = Statement(_lock.where(_BY_ID, *_LIVE_PARTITION))
_LOCK_NAMED = Statement(_lock.where(_BY_NAME, *_LIVE_PARTITION))
_ON_HOST = Statement(
    select_partitions()
    .where(partitions.c.host_id == bindparam("host_id"), resources.c.state != PartitionState.DELETED.value)
    .order_by(resources.c.id)
)
_MOVING_TO = Statement(
    select(partitions.c.id)
    .join(resources, resources.c.id == partitions.c.id)
    .where(partitions.c.target_host_id == bindparam("host_id"), resources.c.state != PartitionState.DELETED.value)
    .order_by(partitions.c.id)
)
_NETWORKS = Statement(select_networks().where(networks.c.id == any_(_IDS)))
_RESOURCE_COLUMNS = ("name", "technology", "state", "tags", "memory_mib", "cpus", "operation_id", "revision")
_PARTITION_COLUMNS = tuple(column.name for column in partitions.c if column.name != "id")
_ADD_RESOURCE = Statement(
    insert_columns(resources, "id", "kind", "created_at", "updated_at", *_RESOURCE_COLUMNS),
)
_ADD_PARTITION = Statement(insert_columns(partitions, "id", *_PARTITION_COLUMNS))
_SAVE_RESOURCE = Statement(
    update_columns(resources, "updated_at", *_RESOURCE_COLUMNS).where(
        _BY_ID, resources.c.revision == bindparam("saved_revision")
    )
)
_SAVE_PARTITION = Statement(update_columns(partitions, *_PARTITION_COLUMNS).where(partitions.c.id == bindparam("id")))


async def read_networks(connection: Connection, network_ids: Iterable[UUID]) -> dict[UUID, Network]:
    """The networks with the given ids; those that are gone are left out."""
    wanted = list(set(network_ids))
    if not wanted:
        return {}
    return {row["id"]: row_to_network(row) for row in await connection.all(_NETWORKS, ids=wanted)}


def row_to_network(row: Mapping[Any, Any]) -> Network:
    """A Network from a row of `select_networks`."""
    return Network(
        id=row["id"],
        name=row["name"],
        bridge=row["bridge"],
        host_bridges=_HOST_BRIDGES.validate_json(row["host_bridges"]),
        vlan=row["vlan"],
    )


class Partitions:
    """The partitions, within one transaction."""

    def __init__(self, connection: Connection, writes: Writes) -> None:
        self._connection = connection
        self._writes = writes

    async def get(self, partition_id: UUID) -> Partition | None:
        """Read one without a lock."""
        await self._writes.flush_one(partition_id)
        row = await self._connection.one(_GET, id=partition_id)
        if row is None:
            return None
        partition = row_to_partition(row)
        partition.has_queue = row["has_queue"]
        return partition

    async def lock(self, partition_id: UUID) -> Partition | None:
        """Read one and keep others from changing it until the transaction ends."""
        # Lock, then read: one statement for both would join the newest row with what others were when it began.
        await self._connection.value(_LOCK, id=partition_id)
        return await self.get(partition_id)

    async def lock_all(self, ids: Collection[UUID]) -> dict[UUID, Partition]:
        """Read several and keep others from changing them until the transaction ends; without those that are gone."""
        if len(ids) == 1:
            found = await self.lock(next(iter(ids)))
            return {found.id: found} if found else {}
        await self._connection.all(_LOCK_ALL, ids=list(ids))
        return {partition.id: partition for partition in await self.with_ids(ids)}

    async def lock_ref(self, ref: str) -> Partition:
        """Read and lock by id or name; NotFoundError if there is none."""
        if is_id(ref):
            partition_id = await self._connection.value(_LOCK_LIVE, id=UUID(ref))
        else:
            partition_id = await self._connection.value(_LOCK_NAMED, name=ref)
        partition = await self.get(partition_id) if partition_id else None
        if partition is None:
            raise NotFoundError(
                f"There is no partition {ref!r}. List the partitions to see which there are.",
                details={"partition": ref},
            )
        return partition

    def add(self, partition: Partition) -> None:
        """Insert a new one with the transaction's other writes. DuplicateError then if its id or its name is taken."""
        self._writes.put(partition.id, partition, partial(_add, partition))

    def save(self, partition: Partition, now: datetime) -> None:
        """Write it back with the transaction's other writes.

        TemporaryError then if it was changed meanwhile, which the row lock rules out.
        """
        partition.updated_at = now
        self._writes.put(partition.id, partition, partial(_save, partition))

    async def on_host(self, host_id: UUID) -> list[Partition]:
        """The live partitions placed on a host, by id, without a lock."""
        await self._writes.flush()
        return [row_to_partition(row) for row in await self._connection.all(_ON_HOST, host_id=host_id)]

    async def ids_moving_to(self, host_id: UUID) -> list[UUID]:
        """The live partitions that are on their way to a host, by id."""
        await self._writes.flush()
        return [row["id"] for row in await self._connection.all(_MOVING_TO, host_id=host_id)]

    async def with_ids(self, ids: Collection[UUID]) -> list[Partition]:
        """The partitions with the given ids, deleted ones included, without a lock."""
        if not ids:
            return []
        await self._writes.flush()
        return [row_to_partition(row) for row in await self._connection.all(_GET_ALL, ids=list(ids))]


def _add(partition: Partition) -> list[Write]:
    kind, created_at = ResourceKind.PARTITION.value, partition.created_at
    partition.saved_revision = partition.revision
    return [
        Write(_ADD_RESOURCE, _resource_values(partition) | {"kind": kind, "created_at": created_at}),
        Write(_ADD_PARTITION, _partition_values(partition)),
    ]


def _save(partition: Partition) -> list[Write]:
    saved_revision, partition.saved_revision = partition.saved_revision, partition.revision
    changed = _resource_values(partition) | {"saved_revision": saved_revision}
    return [
        Write(_SAVE_RESOURCE, changed, partial(_changed_meanwhile, partition)),
        Write(_SAVE_PARTITION, _partition_values(partition)),
    ]


def _changed_meanwhile(partition: Partition) -> Exception:
    return TemporaryError(f"The partition {partition.name!r} was changed at the same time.", retry_after=0.1)
