"""Partitions seen on hosts that inventory did not place there: shown, adoptable, their addresses respected."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import bindparam, delete, or_, select
from sqlalchemy.dialects.postgresql import insert

from openqrm.contracts.partition import ObservedPartition, PartitionDiscovered
from openqrm.contracts.states import ObservedState
from openqrm.inventory.adapters.tables import GONE, resources, strangers
from openqrm.inventory.domain.host import Host
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.persistence.connection import Statement

_IN_MEMORY = (ObservedState.RUNNING, ObservedState.PAUSED, ObservedState.INCOMING)
_observed_state = strangers.c.observed["state"].astext
_SEEN_IN_MEMORY = Statement(
    select(resources.c.name)
    .join(strangers, strangers.c.host_id == resources.c.id)
    .where(
        strangers.c.partition_id == bindparam("partition_id"),
        or_(*(_observed_state == state.value for state in _IN_MEMORY)),
    )
    .order_by(resources.c.name)
    .limit(1)
)


async def note(tx: Transaction, host: Host, strange: Iterable[ObservedPartition]) -> None:
    """Remember them as they are now; those that were not known are told."""
    seen = {observed.id: observed for observed in strange}
    if not seen:
        return
    statement = select(strangers.c.partition_id, strangers.c.observed).where(
        strangers.c.host_id == host.id, strangers.c.partition_id.in_(seen)
    )
    known = {row.partition_id: row.observed for row in await tx.execute(statement)}
    for partition_id, observed in sorted(seen.items()):
        values = {"observed": observed.model_dump(mode="json")}
        if known.get(partition_id) == values["observed"]:
            continue
        await tx.execute(
            insert(strangers)
            .values(host_id=host.id, partition_id=partition_id, first_seen_at=tx.now, **values)
            .on_conflict_do_update(index_elements=[strangers.c.host_id, strangers.c.partition_id], set_=values)
        )
        if partition_id not in known and observed.state is not ObservedState.INCOMING:
            tx.send(PartitionDiscovered(host_id=host.id, host_name=host.name, observed=observed), observed.id)


async def forget(tx: Transaction, host_id: UUID, *partition_ids: UUID) -> None:
    """They are gone from the host, or ours now."""
    await tx.execute(
        delete(strangers).where(strangers.c.host_id == host_id, strangers.c.partition_id.in_(partition_ids))
    )


async def keep_only(tx: Transaction, host_id: UUID, partition_ids: set[UUID]) -> None:
    """All others are gone from the host, or ours now."""
    await tx.execute(
        delete(strangers).where(strangers.c.host_id == host_id, strangers.c.partition_id.not_in(partition_ids))
    )


async def respect_addresses(inventory: Inventory, tx: Transaction, host: Host) -> None:
    """Keep the addresses of a host's strangers from being given out."""
    rows = await tx.execute(select(strangers.c.observed).where(strangers.c.host_id == host.id))
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
    found: str | None = await tx.connection.value(_SEEN_IN_MEMORY, partition_id=partition_id)
    return found


async def placed_elsewhere(tx: Transaction, host_id: UUID) -> list[str]:
    """The names of partitions of ours that are seen on a host although they are placed on another one."""
    statement = (
        select(resources.c.name)
        .join(strangers, strangers.c.partition_id == resources.c.id)
        .where(strangers.c.host_id == host_id, resources.c.state.not_in(GONE))
        .order_by(resources.c.name)
    )
    return list((await tx.execute(statement)).scalars())
