"""The reconciler: what executors see, against what should be.

Crash: the partition's policy decides. Stranger: shown, and can be adopted. Missing: an event. Drift: reported.
A partition that an operation is at work on is left alone: the operation's own report says what became of it.
"""

from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.delivery import Delivery
from openqrm.contracts.host import (
    HostChanged,
    HostConnected,
    HostDisconnected,
    HostHeartbeat,
    HostLost,
    HostObserved,
    HostReturned,
)
from openqrm.contracts.partition import (
    CrashPolicy,
    ObservedPartition,
    PartitionChanged,
    PartitionCrashed,
    PartitionDiscovered,
    PartitionDrifted,
    PartitionEvent,
    PartitionObserved,
    PartitionPaused,
    PartitionStarted,
    PartitionStopped,
    PartitionUnpaused,
    PartitionVanished,
    StartPartition,
)
from openqrm.contracts.states import DesiredState, HostState, ObservedState, PartitionState
from openqrm.contracts.technology import ExecutorAnnounced
from openqrm.inventory.adapters.tables import inbox, strangers, technologies
from openqrm.inventory.domain.drift import find_drift
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.mac_ranges import to_number
from openqrm.inventory.domain.partition import Partition
from openqrm.inventory.flows.partitions import SEEN
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.persistence.inbox import is_new

_ALIVE = (PartitionState.RUNNING, PartitionState.PAUSED)

GUEST_ENDED_IT = frozenset({"shutdown", "shut down", "poweroff", "destroyed"})
"""Reasons of a stop that somebody wanted, inside the guest or at the host: not a crash."""


async def executor_announced(inventory: Inventory, event: ExecutorAnnounced, _delivery: Delivery) -> None:
    """Remember what a technology can do, and its MAC range if it is a new one."""
    manifest = event.manifest
    mac_range = manifest.mac_range
    values = {
        "title": manifest.title,
        "manifest": manifest.model_dump(mode="json"),
        "mac_first": to_number(mac_range.first) if mac_range else None,
        "mac_last": to_number(mac_range.last) if mac_range else None,
    }
    async with inventory.transaction() as tx:
        await tx.connection.execute(
            insert(technologies)
            .values(name=manifest.technology, **values)
            .on_conflict_do_update(index_elements=[technologies.c.name], set_=values)
        )


async def host_heartbeat(inventory: Inventory, sample: HostHeartbeat) -> None:
    """A host answered its executor."""
    async with inventory.transaction() as tx:
        await tx.hosts.touch(sample.host_id, sample.observed_at)


async def host_connected(inventory: Inventory, event: HostConnected, _delivery: Delivery) -> None:
    """An executor reached a host; whether it is ready again is said by the observation that follows."""
    async with inventory.transaction() as tx:
        await tx.hosts.touch(event.host_id, event.observed_at)


async def host_disconnected(inventory: Inventory, event: HostDisconnected, _delivery: Delivery) -> None:
    """An executor lost a host: its partitions are in doubt, and none of them is started elsewhere for that."""
    async with inventory.transaction() as tx:
        host = await tx.hosts.lock(event.host_id)
        usable = (HostState.READY, HostState.DRAINING, HostState.MAINTENANCE)
        if host is None or host.state not in usable or _is_older(event.observed_at, host.last_seen_at):
            return
        host.state, host.state_reason = HostState.UNREACHABLE, event.reason
        tx.tell_host(HostLost, host, reason=event.reason)
        await tx.hosts.save(host, tx.now)
        for partition_id in await tx.partitions.ids_on(host.id):
            partition = await tx.partitions.lock(partition_id)
            if partition and partition.operation_id is None and partition.state in _ALIVE:
                partition.state = PartitionState.UNKNOWN
                await tx.tell_partition(PartitionChanged, partition, reason=f"{host.name} does not answer")
                await tx.partitions.save(partition, tx.now, whole=False)


def _is_older(moment: datetime, than: datetime | None) -> bool:
    return than is not None and moment < than


async def host_observed(inventory: Inventory, event: HostObserved, delivery: Delivery) -> None:
    """Everything on one host: compare it with everything that should be there."""
    async with inventory.transaction() as tx:
        if not await is_new(tx.connection, inbox, delivery.message_id):
            return
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state is HostState.REMOVED:
            return
        _note_facts(tx, host, event)
        returned = host.state in (HostState.UNREACHABLE, HostState.RETURNING) and host.operation_id is None
        seen = {observed.id: observed for observed in event.partitions}
        for partition_id in await tx.partitions.ids_on(host.id):
            observed = seen.pop(partition_id, None)
            await _compare(inventory, tx, host, partition_id, observed, "", event.observed_at)
        for observed in seen.values():
            await _compare(inventory, tx, host, observed.id, observed, "", event.observed_at)
        await _forget_strangers(tx, host, {observed.id for observed in event.partitions})
        await _note_foreign_macs(tx, host, event.partitions)
        if returned:
            host.settle(host.usual_state)
            tx.tell_host(HostReturned, host)
            inventory.retry_waiting_after(tx)
        await tx.hosts.save(host, tx.now)


def _note_facts(tx: Transaction, host: Host, event: HostObserved) -> None:
    host.last_seen_at = event.observed_at
    stable = {"memory_free_mib", "storages"}
    before = host.facts.model_dump(exclude=stable) if host.facts else None
    changed = before != event.facts.model_dump(exclude=stable)
    free_before = {s.path: s.free_mib for s in host.facts.storages} if host.facts else {}
    # Free space moves all the time; only a move that placement could notice is told.
    moved = any(abs(s.free_mib - free_before.get(s.path, -1)) > max(s.total_mib // 50, 1) for s in event.facts.storages)
    host.facts = event.facts
    if changed or moved:
        tx.tell_host(HostChanged, host, reason="its facts changed")


async def partition_observed(inventory: Inventory, event: PartitionObserved, delivery: Delivery) -> None:
    """One partition changed by itself."""
    async with inventory.transaction() as tx:
        if not await is_new(tx.connection, inbox, delivery.message_id):
            return
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state is HostState.REMOVED:
            return
        await _compare(inventory, tx, host, event.partition_id, event.observed, event.reason.lower(), event.observed_at)
        if event.observed is None:
            await tx.connection.execute(
                delete(strangers).where(strangers.c.host_id == host.id, strangers.c.partition_id == event.partition_id)
            )


async def _compare(
    inventory: Inventory,
    tx: Transaction,
    host: Host,
    partition_id: UUID,
    observed: ObservedPartition | None,
    reason: str,
    observed_at: datetime,
) -> None:
    partition = await tx.partitions.lock(partition_id)
    ours = partition is not None and partition.state is not PartitionState.DELETED and partition.host_id == host.id
    if partition is None or not ours:
        moving_here = partition is not None and partition.target_host_id == host.id
        if observed is not None and not moving_here:
            await _note_stranger(tx, host, observed)
        return
    if partition.operation_id is not None or _is_older(observed_at, partition.seen_at):
        return
    before = partition.state
    event = _settle(partition, observed, reason)
    if event is not None:
        await tx.tell_partition(event, partition, reason=reason or _because(before, observed))
    if event is PartitionCrashed:
        _restart_by_policy(inventory, tx, partition)
    drift = find_drift(partition, observed, await tx.networks_of(partition)) if observed else partition.drift
    drifted = drift != partition.drift
    if drifted:
        partition.drift = drift
        await tx.tell_partition(PartitionDrifted, partition)
    if event is not None or drifted:
        partition.seen_at = observed_at
        await tx.partitions.save(partition, tx.now)


def _because(before: PartitionState, observed: ObservedPartition | None) -> str:
    return f"was {before}, seen {observed.state if observed else 'no more'} on its host"


def _settle(partition: Partition, observed: ObservedPartition | None, reason: str) -> type[PartitionEvent] | None:
    """Set the state to what was seen; the event that tells it, or None when nothing is new."""
    before = partition.state
    if observed is None:
        partition.state = PartitionState.MISSING
        return PartitionVanished if before is not PartitionState.MISSING else None
    if observed.state not in SEEN or SEEN[observed.state] is before:
        return None
    now = SEEN[observed.state]
    if now in (PartitionState.STOPPED, PartitionState.CRASHED):
        return _settle_ended(partition, now, reason)
    partition.state = now
    partition.desired_state = DesiredState.RUNNING if now is PartitionState.RUNNING else DesiredState.PAUSED
    if before is PartitionState.UNKNOWN:
        return PartitionChanged
    if now is PartitionState.PAUSED:
        return PartitionPaused
    return PartitionUnpaused if before is PartitionState.PAUSED else PartitionStarted


def _settle_ended(partition: Partition, now: PartitionState, reason: str) -> type[PartitionEvent] | None:
    should_run = partition.desired_state in (DesiredState.RUNNING, DesiredState.PAUSED)
    wanted_end = any(word in reason for word in GUEST_ENDED_IT)
    if should_run and (now is PartitionState.CRASHED or not wanted_end):
        was_crashed = partition.state is PartitionState.CRASHED
        partition.state = PartitionState.CRASHED
        return None if was_crashed else PartitionCrashed
    if partition.state is PartitionState.CRASHED:
        return None
    partition.state = PartitionState.STOPPED
    partition.desired_state = DesiredState.STOPPED
    return PartitionStopped


def _restart_by_policy(inventory: Inventory, tx: Transaction, partition: Partition) -> None:
    """Ask for a start, unless it crashes so often that this helps nobody."""
    window = tx.now - timedelta(seconds=inventory.settings.crash_window_seconds)
    recent = [time for time in partition.crashes if datetime.fromisoformat(time) > window]
    partition.crashes = [*recent, tx.now.isoformat()][-20:]
    if partition.on_crash is not CrashPolicy.RESTART:
        return
    if len(recent) >= inventory.settings.crash_restarts:
        inventory.log.warning(
            "a partition crashes too often and stays down", partition=partition.name, crashes=len(recent) + 1
        )
        return
    start = StartPartition(
        operation_id=uuid5(partition.id, f"restart {partition.revision}"),
        requested_by="crash policy",
        partition=str(partition.id),
    )
    tx.send(start, partition.id)


async def _note_stranger(tx: Transaction, host: Host, observed: ObservedPartition) -> None:
    values = {"observed": observed.model_dump(mode="json")}
    known = select(strangers.c.partition_id).where(
        strangers.c.host_id == host.id, strangers.c.partition_id == observed.id
    )
    is_new_one = (await tx.connection.execute(known)).scalar_one_or_none() is None
    await tx.connection.execute(
        insert(strangers)
        .values(host_id=host.id, partition_id=observed.id, first_seen_at=tx.now, **values)
        .on_conflict_do_update(index_elements=[strangers.c.host_id, strangers.c.partition_id], set_=values)
    )
    if is_new_one and observed.state is not ObservedState.INCOMING:
        tx.send(PartitionDiscovered(host_id=host.id, host_name=host.name, observed=observed), observed.id)


async def _forget_strangers(tx: Transaction, host: Host, seen: set[UUID]) -> None:
    await tx.connection.execute(
        delete(strangers).where(strangers.c.host_id == host.id, strangers.c.partition_id.not_in(seen))
    )


async def _note_foreign_macs(tx: Transaction, host: Host, observed: tuple[ObservedPartition, ...]) -> None:
    rows = await tx.connection.execute(select(strangers.c.partition_id).where(strangers.c.host_id == host.id))
    strange = set(rows.scalars())
    macs = {nic.mac for partition in observed if partition.id in strange for nic in partition.nics}
    await tx.macs.set_foreign(host.id, host.technology, macs)
