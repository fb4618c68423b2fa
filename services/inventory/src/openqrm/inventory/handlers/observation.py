"""The reconciler's ears: what executors report by themselves about hosts and what is on them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.delivery import Delivery
from openqrm.contracts.errors import InvalidError
from openqrm.contracts.host import (
    HostChanged,
    HostConnected,
    HostDisconnected,
    HostFacts,
    HostHeartbeat,
    HostLost,
    HostObserved,
    HostReturned,
)
from openqrm.contracts.partition import ObservedPartition, PartitionObserved
from openqrm.contracts.states import HostState, PartitionState
from openqrm.contracts.technology import ExecutorAnnounced, MacRange
from openqrm.inventory.adapters.tables import technologies
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.mac_ranges import to_number
from openqrm.inventory.domain.moments import known_since, seen_at
from openqrm.inventory.domain.partition import Partition, Sighting
from openqrm.inventory.flows import hosts, reconciling, strangers
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction

_USABLE = (HostState.READY, HostState.DRAINING, HostState.MAINTENANCE)
_AWAY = (HostState.UNREACHABLE, HostState.FAILED, HostState.RETURNING)


async def executor_announced(inventory: Inventory, event: ExecutorAnnounced, _delivery: Delivery) -> None:
    """Remember what a technology can do, and the MAC range that its driver declares."""
    manifest = event.manifest
    mac_range = manifest.mac_range
    if mac_range:
        _check_range(manifest.technology, mac_range)
    values = {
        "title": manifest.title,
        "manifest": manifest.model_dump(mode="json"),
        "mac_first": to_number(mac_range.first) if mac_range else None,
        "mac_last": to_number(mac_range.last) if mac_range else None,
    }
    async with inventory.transaction() as tx:
        await tx.execute(
            insert(technologies)
            .values(name=manifest.technology, **values)
            .on_conflict_do_update(index_elements=[technologies.c.name], set_=values)
        )


def _check_range(technology: str, mac_range: MacRange) -> None:
    if mac_range.first > mac_range.last or mac_range.first[:2] != mac_range.last[:2]:
        raise InvalidError(
            f"The driver of {technology} declares the MAC range {mac_range.first} to {mac_range.last}. Its end must "
            "not lie before its beginning, and both must begin with the same byte: others hold multicast addresses."
        )


async def host_heartbeat(inventory: Inventory, sample: HostHeartbeat) -> None:
    """A host answered its executor. Kept in memory, and written for many hosts at once."""
    _note_seen(inventory, sample.host_id)


async def host_connected(inventory: Inventory, event: HostConnected, delivery: Delivery) -> None:
    """An executor reached a host; whether it is ready again is said by the observation that follows."""
    now = inventory.clock.now()
    _note_seen(inventory, event.host_id, seen_at(event.observed_at, delivery.sent_at, now))


def _note_seen(inventory: Inventory, host_id: UUID, moment: datetime | None = None) -> None:
    now = inventory.clock.now()
    known = known_since(inventory.heartbeats.get(host_id), now)
    if known is None or known < (moment or now):
        inventory.heartbeats[host_id] = moment or now


async def host_disconnected(inventory: Inventory, event: HostDisconnected, delivery: Delivery) -> None:
    """An executor lost a host: its partitions are in doubt, and none of them is started elsewhere for that."""
    heard = inventory.heartbeats.get(event.host_id)
    async with inventory.transaction() as tx:
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state not in _USABLE:
            return
        at = seen_at(event.observed_at, delivery.sent_at, tx.now)
        if any(reconciling.is_older(at, known_since(seen, tx.now)) for seen in (host.last_seen_at, heard)):
            return
        host.state, host.state_reason = HostState.UNREACHABLE, event.reason
        tx.tell_host(HostLost, host, reason=event.reason)
        await tx.hosts.save(host, tx.now)
        await hosts.doubt_partitions(tx, host)


async def host_observed(inventory: Inventory, event: HostObserved, delivery: Delivery) -> None:
    """Everything on one host: compare it with everything that should be there."""
    async with inventory.transaction() as tx:
        tx.note_handled(delivery.message_id)
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state is HostState.REMOVED:
            return
        host.last_seen_at = seen_at(event.observed_at, delivery.sent_at, tx.now)
        at = seen_at(event.observed_at, delivery.sent_at, delivery.published_at)
        if _note_facts(host, event.facts):
            tx.tell_host(HostChanged, host, reason="its facts changed")
            inventory.retry_waiting_after(tx)
        await _compare_all(
            inventory,
            tx,
            host,
            event.partitions,
            at,
            inventory.bus_clock.now(delivery.sequence, delivery.published_at, tx.now),
        )
        if host.state in _AWAY:
            await _return(inventory, tx, host)
        await tx.hosts.save(host, tx.now)


def _note_facts(host: Host, facts: HostFacts) -> bool:
    """Take the facts over; whether anything changed that others should hear of."""
    moving = {"memory_free_mib", "storages"}
    before = host.facts.model_dump(exclude=moving) if host.facts else None
    changed = before != facts.model_dump(exclude=moving)
    free_before = {s.path: s.free_mib for s in host.facts.storages} if host.facts else {}
    # Free space moves all the time; only a move that placement could notice is told.
    moved = any(abs(s.free_mib - free_before.get(s.path, -1)) > max(s.total_mib // 50, 1) for s in facts.storages)
    host.facts = facts
    return changed or moved


async def _compare_all(
    inventory: Inventory,
    tx: Transaction,
    host: Host,
    observed: tuple[ObservedPartition, ...],
    at: datetime,
    bus_time: datetime,
) -> None:
    """Compare everything that is seen with everything that should be there, and note the strangers."""
    seen = {each.id: each for each in observed}
    known = {partition.id: partition for partition in await tx.partitions.on_host(host.id)}
    # Also what is on its way here and is not seen: that shows which side has it.
    others = (seen.keys() | set(await tx.partitions.ids_moving_to(host.id))) - known.keys()
    known |= {partition.id: partition for partition in await tx.partitions.with_ids(others)}
    networks = await tx.networks(nic.network_id for partition in known.values() for nic in partition.nics)
    strange = {partition_id for partition_id in seen if not _is_ours(known.get(partition_id), host)}
    for partition_id, partition in sorted(known.items()):
        if partition_id in strange:
            continue
        partition.seen_at = known_since(partition.seen_at, bus_time)
        sighting = Sighting(observed=seen.get(partition_id), reason="", at=at)
        # Most of what is seen is no news. Only for what is, the partition is locked, which reads it anew.
        if reconciling.is_news(partition, sighting, networks):
            await _compare(inventory, tx, host, partition_id, sighting, bus_time)
    await strangers.note(tx, host, [seen[partition_id] for partition_id in strange])
    await strangers.keep_only(tx, host.id, strange)
    await strangers.respect_addresses(inventory, tx, host)


def _is_ours(partition: Partition | None, host: Host) -> bool:
    if partition is None or partition.state is PartitionState.DELETED:
        return False
    return host.id in (partition.host_id, partition.target_host_id)


async def _compare(
    inventory: Inventory, tx: Transaction, host: Host, partition_id: UUID, seen: Sighting, bus_time: datetime
) -> None:
    """Compare one partition, if it is still one of ours on this host."""
    partition = await tx.partitions.lock(partition_id)
    if partition is not None and _is_ours(partition, host):
        partition.seen_at = known_since(partition.seen_at, bus_time)
        await reconciling.take_in(inventory, tx, host.id, partition, seen)


async def _return(inventory: Inventory, tx: Transaction, host: Host) -> None:
    """A host that was away answers again: it takes partitions once it has none that are placed elsewhere by now."""
    if stale := await strangers.placed_elsewhere(tx, host.id):
        names = ", ".join(map(repr, stale[:5]))
        reason = f"{len(stale)} partitions on it are placed on other hosts by now: {names}. Remove them there by hand."
        if (host.state, host.state_reason) != (HostState.RETURNING, reason):
            host.state, host.state_reason = HostState.RETURNING, reason
            tx.tell_host(HostChanged, host, reason=reason)
        return
    if host.operation_id is not None:  # an evacuation goes on
        host.state, host.state_reason = HostState.DRAINING, "for maintenance"
    else:
        host.settle(host.usual_state)
    tx.tell_host(HostReturned, host)
    inventory.retry_waiting_after(tx)


async def partition_observed(inventory: Inventory, event: PartitionObserved, delivery: Delivery) -> None:
    """One partition changed by itself."""
    async with inventory.transaction() as tx:
        tx.note_handled(delivery.message_id)
        await _take_in(inventory, tx, [(event, delivery)])


async def partitions_observed(
    inventory: Inventory, observed: Sequence[tuple[PartitionObserved, Delivery]], superseded: Sequence[str]
) -> None:
    """Partitions of one host changed by themselves: observations in order, and the ids of those that they replace."""
    async with inventory.transaction() as tx:
        new = await tx.note_all_handled([*(delivery.message_id for _, delivery in observed), *superseded])
        if unhandled := [(event, delivery) for event, delivery in observed if delivery.message_id in new]:
            await _take_in(inventory, tx, unhandled)


async def _take_in(inventory: Inventory, tx: Transaction, observed: list[tuple[PartitionObserved, Delivery]]) -> None:
    """Compare partitions that were seen on one host with what they should be, and note the strangers among them."""
    host = await tx.hosts.lock(observed[0][0].host_id)
    if host is None or host.state is HostState.REMOVED:
        return
    partitions = await tx.partitions.lock_all({event.partition_id for event, _ in observed})
    strange = []
    for event, delivery in observed:
        partition = partitions.get(event.partition_id)
        if partition is None or not _is_ours(partition, host):
            strange.append(event)
            continue
        at = seen_at(event.observed_at, delivery.sent_at, delivery.published_at)
        bus_time = inventory.bus_clock.now(delivery.sequence, delivery.published_at, tx.now)
        partition.seen_at = known_since(partition.seen_at, bus_time)
        seen = Sighting(observed=event.observed, reason=event.reason.lower(), at=at)
        await reconciling.take_in(inventory, tx, host.id, partition, seen)
    for event in strange:  # after all others: MAC addresses are locked last
        await _note_stranger(inventory, tx, host, event)


async def _note_stranger(inventory: Inventory, tx: Transaction, host: Host, event: PartitionObserved) -> None:
    if event.observed is not None:
        await strangers.note(tx, host, [event.observed])
        await strangers.respect(inventory, tx, host, {nic.mac for nic in event.observed.nics})
        return
    await strangers.forget(tx, host.id, event.partition_id)
    await strangers.respect_addresses(inventory, tx, host)
    if host.state is HostState.RETURNING:
        await _return(inventory, tx, host)
        await tx.hosts.save(host, tx.now)
