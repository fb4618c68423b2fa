"""Partitions in PostgreSQL."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from openqrm.contracts.errors import NotFoundError, TemporaryError
from openqrm.contracts.ids import is_id
from openqrm.contracts.partition import CrashPolicy, DiskDefinition, Drift, Firmware
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import DesiredState, PartitionState
from openqrm.inventory.adapters.tables import GONE, networks, partitions, resources
from openqrm.inventory.domain.partition import Network, Nic, Partition, Sighting

_DISKS = TypeAdapter(list[DiskDefinition])
_DRIFT = TypeAdapter(tuple[Drift, ...])
_NICS = TypeAdapter(list[Nic])
_SIGHTINGS = TypeAdapter(dict[UUID, Sighting])

_host = resources.alias("host")


def select_partitions() -> Select[Any]:
    """Everything that a Partition is made of, by `row_to_partition`."""
    return (
        select(resources, partitions, _host.c.name.label("host_name"))
        .join(partitions, partitions.c.id == resources.c.id)
        .outerjoin(_host, _host.c.id == partitions.c.host_id)
    )


def row_to_partition(row: Row[Any]) -> Partition:
    """A Partition from a row of `select_partitions`."""
    r = row._mapping  # noqa: SLF001 - SQLAlchemy's documented name
    return Partition(
        id=r[resources.c.id],
        revision=r[resources.c.revision],
        saved_revision=r[resources.c.revision],
        name=r[resources.c.name],
        technology=r[resources.c.technology],
        state=PartitionState(r[resources.c.state]),
        desired_state=DesiredState(r[partitions.c.desired_state]),
        epoch=r[partitions.c.epoch],
        host_id=r[partitions.c.host_id],
        host_name=r["host_name"],
        target_host_id=r[partitions.c.target_host_id],
        memory_mib=r[resources.c.memory_mib],
        memory_max_mib=r[partitions.c.memory_max_mib],
        vcpus=r[resources.c.cpus],
        vcpus_max=r[partitions.c.vcpus_max],
        cpu_pins={int(vcpu): tuple(cpus) for vcpu, cpus in r[partitions.c.cpu_pins].items()},
        disks=_DISKS.validate_python(r[partitions.c.disks]) if r[partitions.c.disks] else [],
        nics=_NICS.validate_python(r[partitions.c.nics]) if r[partitions.c.nics] else [],
        firmware=Firmware(r[partitions.c.firmware]),
        vnc=r[partitions.c.vnc],
        tags=tuple(r[resources.c.tags]),
        host_tags=tuple(r[partitions.c.host_tags]),
        on_crash=CrashPolicy(r[partitions.c.on_crash]),
        operation_id=r[resources.c.operation_id],
        drift=_DRIFT.validate_python(r[partitions.c.drift]) if r[partitions.c.drift] else (),
        created_at=r[resources.c.created_at],
        updated_at=r[resources.c.updated_at],
        crashes=list(r[partitions.c.crashes]),
        seen_at=r[partitions.c.seen_at],
        sightings=_SIGHTINGS.validate_python(r[partitions.c.sightings]) if r[partitions.c.sightings] else {},
    )


def _resource_values(partition: Partition) -> dict[str, Any]:
    return {
        "name": partition.name,
        "technology": partition.technology,
        "state": partition.state.value,
        "tags": list(partition.tags),
        "memory_mib": partition.memory_mib,
        "cpus": partition.vcpus,
        "operation_id": partition.operation_id,
        "revision": partition.revision,
        "updated_at": partition.updated_at,
    }


def _partition_values(partition: Partition) -> dict[str, Any]:
    return {
        "desired_state": partition.desired_state.value,
        "epoch": partition.epoch,
        "host_id": partition.host_id,
        "target_host_id": partition.target_host_id,
        "memory_max_mib": partition.memory_max_mib,
        "vcpus_max": partition.vcpus_max,
        "cpu_pins": {str(vcpu): list(cpus) for vcpu, cpus in partition.cpu_pins.items()},
        "disks": _DISKS.dump_python(partition.disks, mode="json"),
        "nics": _NICS.dump_python(partition.nics, mode="json"),
        "firmware": partition.firmware.value,
        "vnc": partition.vnc,
        "host_tags": list(partition.host_tags),
        "on_crash": partition.on_crash.value,
        "crashes": partition.crashes,
        "seen_at": partition.seen_at,
        "sightings": _SIGHTINGS.dump_python(partition.sightings, mode="json"),
        "drift": _DRIFT.dump_python(partition.drift, mode="json"),
    }


class Partitions:
    """The partitions, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, partition_id: UUID) -> Partition | None:
        """Read one without a lock."""
        row = (await self._connection.execute(select_partitions().where(resources.c.id == partition_id))).one_or_none()
        return row_to_partition(row) if row else None

    async def lock(self, partition_id: UUID) -> Partition | None:
        """Read one and keep others from changing it until the transaction ends."""
        # Lock, then read: one statement for both would join the newest row with what others were when it began.
        statement = select(resources.c.id).where(resources.c.id == partition_id).with_for_update(key_share=True)
        await self._connection.execute(statement)
        return await self.get(partition_id)

    async def lock_ref(self, ref: str) -> Partition:
        """Read and lock by id or name; NotFoundError if there is none."""
        statement = (
            select(resources.c.id)
            .where(
                resources.c.kind == ResourceKind.PARTITION.value,
                resources.c.id == UUID(ref) if is_id(ref) else resources.c.name == ref,
                resources.c.state.not_in(GONE),
            )
            .with_for_update(key_share=True)
        )
        partition_id = (await self._connection.execute(statement)).scalar_one_or_none()
        partition = await self.get(partition_id) if partition_id else None
        if partition is None:
            raise NotFoundError(
                f"There is no partition {ref!r}. List the partitions to see which there are.",
                details={"partition": ref},
            )
        return partition

    async def add(self, partition: Partition) -> None:
        """Insert a new one. IntegrityError when its id or its name is taken."""
        await self._connection.execute(
            insert(resources).values(
                id=partition.id,
                kind=ResourceKind.PARTITION.value,
                created_at=partition.created_at,
                **_resource_values(partition),
            )
        )
        await self._connection.execute(insert(partitions).values(id=partition.id, **_partition_values(partition)))
        partition.saved_revision = partition.revision

    async def save(self, partition: Partition, now: datetime, whole: bool = True) -> None:
        """Write it back. `whole`: also what only partitions have, not just state, operation, size and tags.

        TemporaryError if it was changed meanwhile, which the row lock rules out.
        """
        partition.updated_at = now
        statement = (
            update(resources)
            .where(resources.c.id == partition.id, resources.c.revision == partition.saved_revision)
            .values(**_resource_values(partition))
        )
        if (await self._connection.execute(statement)).rowcount != 1:
            raise TemporaryError(f"The partition {partition.name!r} was changed at the same time.", retry_after=0.1)
        if whole:
            await self._connection.execute(
                update(partitions).where(partitions.c.id == partition.id).values(**_partition_values(partition))
            )
        partition.saved_revision = partition.revision

    async def networks_of(self, network_ids: Iterable[UUID]) -> dict[UUID, Network]:
        """The networks with the given ids; those that are gone are left out."""
        wanted = set(network_ids)
        if not wanted:
            return {}
        rows = await self._connection.execute(select(networks).where(networks.c.id.in_(wanted)))
        return {row.id: row_to_network(row) for row in rows}

    async def on_host(self, host_id: UUID) -> list[Partition]:
        """The live partitions placed on a host, by id, without a lock."""
        statement = select_partitions().where(
            partitions.c.host_id == host_id, resources.c.state != PartitionState.DELETED.value
        )
        rows = await self._connection.execute(statement.order_by(resources.c.id))
        return [row_to_partition(row) for row in rows]

    async def ids_moving_to(self, host_id: UUID) -> list[UUID]:
        """The live partitions that are on their way to a host, by id."""
        statement = (
            select(partitions.c.id)
            .join(resources, resources.c.id == partitions.c.id)
            .where(partitions.c.target_host_id == host_id, resources.c.state != PartitionState.DELETED.value)
            .order_by(partitions.c.id)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def with_ids(self, ids: Collection[UUID]) -> list[Partition]:
        """The partitions with the given ids, deleted ones included, without a lock."""
        if not ids:
            return []
        rows = await self._connection.execute(select_partitions().where(resources.c.id.in_(ids)))
        return [row_to_partition(row) for row in rows]


def row_to_network(row: Row[Any]) -> Network:
    """A Network from a row of the networks table."""
    return Network(
        id=row.id,
        name=row.name,
        bridge=row.bridge,
        host_bridges={UUID(host): bridge for host, bridge in row.host_bridges.items()},
        vlan=row.vlan,
    )
