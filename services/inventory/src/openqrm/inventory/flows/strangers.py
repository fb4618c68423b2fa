"""Partitions seen on hosts that inventory did not place there: shown, adoptable, their addresses respected."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from openqrm.contracts.partition import ObservedPartition, PartitionDiscovered
from openqrm.contracts.states import ObservedState
from openqrm.inventory.adapters.tables import GONE, resources, strangers
from openqrm.inventory.domain.host import Host
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction

_IN_MEMORY = (ObservedState.RUNNING.value, ObservedState.PAUSED.value, ObservedState.INCOMING.value)


async def note(tx: Transaction, host: Host, strange: Iterable[ObservedPartition]) -> None:
    """Remember them as they are now; those that were not known are told."""
    seen = {observed.id: observed for observed in strange}
    if not seen:
        return
    statement = select(strangers.c.partition_id, strangers.c.observed).where(
        strangers.c.host_id == host.id, strangers.c.partition_id.in_(seen)
    )
    known = {row.partition_id: row.observed for row in await tx.connection.execute(statement)}
    for partition_id, observed in sorted(seen.items()):
        values = {"observed": observed.model_dump(mode="json")}
        if known.get(partition_id) == values["observed"]:
            continue
        await tx.connection.execute(
            insert(strangers)
            .values(host_id=host.id, partition_id=partition_id, first_seen_at=tx.now, **values)
            .on_conflict_do_update(index_elements=[strangers.c.host_id, strangers.c.partition_id], set_=values)
        )
        if partition_id not in known and observed.state is not ObservedState.INCOMING:
            tx.send(PartitionDiscovered(host_id=host.id, host_name=host.name, observed=observed), observed.id)


async def forget(tx: Transaction, host_id: UUID, *partition_ids: UUID) -> None:
    """They are gone from the host, or ours now."""
    await tx.connection.execute(
        delete(strangers).where(strangers.c.host_id == host_id, strangers.c.partition_id.in_(partition_ids))
    )


async def keep_only(tx: Transaction, host_id: UUID, partition_ids: set[UUID]) -> None:
    """All others are gone from the host, or ours now."""
    await tx.connection.execute(
        delete(strangers).where(strangers.c.host_id == host_id, strangers.c.partition_id.not_in(partition_ids))
    )


async def respect_addresses(inventory: Inventory, tx: Transaction, host: Host) -> None:
    """Keep the addresses of a host's strangers from being given out."""
    rows = await tx.connection.execute(select(strangers.c.observed).where(strangers.c.host_id == host.id))
    macs = {nic["mac"] for observed in rows.scalars() for nic in observed.get("nics", ())}
    await tx.macs.keep_foreign(host.id, macs, inventory.settings.mac_quarantine_seconds)
    await respect(inventory, tx, host, macs)


async def respect(inventory: Inventory, tx: Transaction, host: Host, macs: set[str]) -> None:
    """Keep these addresses of strangers from being given out."""
    if twice := await tx.macs.note_foreign(host.id, host.technology, macs):
        inventory.log.warning(
            "a stranger has an address that belongs to a partition of ours", host=host.name, macs=", ".join(twice)
        )


async def in_memory_elsewhere(tx: Transaction, partition_id: UUID) -> str | None:
    """The name of a host on which a partition of ours was last seen in memory although it is not placed there."""
    statement = (
        select(resources.c.name)
        .join(strangers, strangers.c.host_id == resources.c.id)
        .where(strangers.c.partition_id == partition_id, strangers.c.observed["state"].astext.in_(_IN_MEMORY))
        .order_by(resources.c.name)
        .limit(1)
    )
    found: str | None = (await tx.connection.execute(statement)).scalar_one_or_none()
    return found


async def placed_elsewhere(tx: Transaction, host_id: UUID) -> list[str]:
    """The names of partitions of ours that are seen on a host although they are placed on another one."""
    statement = (
        select(resources.c.name)
        .join(strangers, strangers.c.partition_id == resources.c.id)
        .where(strangers.c.host_id == host_id, resources.c.state.not_in(GONE))
        .order_by(resources.c.name)
    )
    return list((await tx.connection.execute(statement)).scalars())
