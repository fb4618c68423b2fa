"""What is seen of a partition of ours, against what should be.

Crash: the partition's policy decides. Missing: an event. Drift: reported. What is seen while an operation is at work,
or while it is not known which of two hosts has the partition, is kept and judged afterwards.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import (
    CrashPolicy,
    ObservedPartition,
    PartitionChanged,
    PartitionCrashed,
    PartitionDrifted,
    PartitionEvent,
    PartitionMigrated,
    PartitionPaused,
    PartitionStarted,
    PartitionStopped,
    PartitionUnpaused,
    PartitionVanished,
    StartPartition,
)
from openqrm.contracts.states import DesiredState, ObservedState, PartitionState
from openqrm.inventory.domain.drift import find_drift
from openqrm.inventory.domain.moments import known_since
from openqrm.inventory.domain.operation import Reservation
from openqrm.inventory.domain.partition import Network, Partition, Sighting
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.settings import InventorySettings
from openqrm.inventory.transaction import Transaction

SEEN: dict[ObservedState, PartitionState] = {
    ObservedState.RUNNING: PartitionState.RUNNING,
    ObservedState.PAUSED: PartitionState.PAUSED,
    ObservedState.STOPPED: PartitionState.STOPPED,
    ObservedState.CRASHED: PartitionState.CRASHED,
}
"""What an observed state means for a partition that no operation is at work on."""

GUEST_ENDED_IT = frozenset({"shutdown", "shut down", "poweroff", "destroyed"})
"""Reasons of a stop that somebody wanted, inside the guest or at the host: not a crash."""

_ENDED = (PartitionState.STOPPED, PartitionState.CRASHED)


def is_older(moment: datetime, than: datetime | None) -> bool:
    """Whether something was seen before what is known already."""
    return than is not None and moment < than


def has_to_wait(partition: Partition) -> bool:
    """Whether what is seen of it cannot be judged now."""
    return partition.operation_id is not None or partition.target_host_id is not None


def is_news(partition: Partition, sighting: Sighting, networks: dict[UUID, Network]) -> bool:
    """Whether judging the sighting would change anything. Pure: the partition stays as it is."""
    if has_to_wait(partition):
        return True
    if is_older(sighting.at, partition.seen_at):
        return False
    copy = replace(partition)
    if settle(copy, sighting.observed, sighting.reason) is not None:
        return True
    return sighting.observed is not None and find_drift(copy, sighting.observed, networks) != partition.drift


async def take_in(inventory: Inventory, tx: Transaction, host_id: UUID, partition: Partition, seen: Sighting) -> None:
    """Judge what was seen of a locked partition on its host or on the one that it moves to, or keep it for later."""
    if not has_to_wait(partition):
        await judge(inventory, tx, partition, seen)
        return
    if partition.operation_id is None and is_older(seen.at, known_since(partition.seen_at, tx.now)):
        return  # the report of the operation that left it so is the newer one
    known = partition.sightings.get(host_id)
    if known is None or known.at <= seen.at:
        partition.sightings[host_id] = seen
    if partition.operation_id is None:
        await find_side(inventory, tx, partition)
    tx.partitions.save(partition, tx.now)


async def judge(inventory: Inventory, tx: Transaction, partition: Partition, seen: Sighting) -> None:
    """Bring the partition's state to what was seen, tell what is new, and save it."""
    if is_older(seen.at, known_since(partition.seen_at, tx.now)):
        return
    before = partition.state
    event = settle(partition, seen.observed, seen.reason)
    restart = False
    if event is not None:
        reason = seen.reason or f"was {before}, seen {seen.observed.state if seen.observed else 'no more'} on its host"
        if event is PartitionCrashed:
            restart, verdict = _by_policy(partition, inventory.settings, tx.now)
            reason = f"{reason}; {verdict}"
        await tx.tell_partition(event, partition, reason=reason)
    drifted = seen.observed is not None and await note_drift(tx, partition, seen.observed)
    if drifted:
        await tx.tell_partition(PartitionDrifted, partition)
    if restart:
        tx.send(StartPartition(requested_by="crash policy", partition=str(partition.id)), partition.id)
    # Also when it is no news: what was seen before it may come after it, and is none then.
    partition.seen_at = seen.at
    tx.partitions.save(partition, tx.now if event is not None or drifted else partition.updated_at)


async def note_drift(tx: Transaction, partition: Partition, observed: ObservedPartition) -> bool:
    """Set the drift to what was seen; whether that is new."""
    drift = find_drift(partition, observed, await tx.networks_of(partition))
    changed, partition.drift = drift != partition.drift, drift
    return changed


async def after_operation(
    inventory: Inventory, tx: Transaction, partition: Partition, observed: ObservedPartition | None, ended_at: datetime
) -> None:
    """Judge what was seen of a partition while an operation was at work on it that has just ended.

    `observed` is what the executor saw at the end: a guest that was started may have crashed since.
    """
    sightings, partition.sightings = partition.sightings, {}
    if partition.target_host_id is not None:
        partition.sightings = {host: seen for host, seen in sightings.items() if not is_older(seen.at, ended_at)}
        if observed is not None and partition.host_id is not None:
            partition.sightings.setdefault(partition.host_id, Sighting(observed=observed, reason="", at=ended_at))
        await find_side(inventory, tx, partition)
        return
    latest = sightings.get(partition.host_id) if partition.host_id else None
    if latest is None or is_older(latest.at, ended_at):
        latest = Sighting(observed=observed, reason="", at=ended_at) if observed is not None else None
    if latest is not None and partition.state is not PartitionState.DELETED:
        await judge(inventory, tx, partition, latest)


# ------------------------------------------------------------------------------------------------ state


def settle(partition: Partition, observed: ObservedPartition | None, reason: str) -> type[PartitionEvent] | None:
    """Set the state to what was seen; the event that tells it, or None when nothing is new."""
    before = partition.state
    if observed is None:
        partition.state = PartitionState.MISSING
        return PartitionVanished if before is not PartitionState.MISSING else None
    if observed.state not in SEEN or SEEN[observed.state] is before:
        return None
    now = SEEN[observed.state]
    if now in _ENDED:
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
    if partition.state is PartitionState.CRASHED or (now is PartitionState.CRASHED and partition.state in _ENDED):
        return None
    partition.state = PartitionState.STOPPED
    partition.desired_state = DesiredState.STOPPED
    return PartitionStopped


def _by_policy(partition: Partition, settings: InventorySettings, now: datetime) -> tuple[bool, str]:
    """Whether to start it again, and why (not). Too many crashes in a short time end that: it helps nobody."""
    window = now - timedelta(seconds=settings.crash_window_seconds)
    recent = [time for time in partition.crashes if datetime.fromisoformat(time) > window]
    partition.crashes = [*recent, now.isoformat()]
    if partition.on_crash is not CrashPolicy.RESTART:
        return False, "it stays down, as its policy says"
    if len(recent) >= settings.crash_restarts:
        times = f"{len(recent) + 1} times within {settings.crash_window_seconds} s"
        return False, f"it crashed {times} and stays down"
    return True, "it is started again"


# ------------------------------------------------------------------------------------------------ which side


def side_of(source: Sighting | None, target: Sighting | None) -> RunsOn:
    """Which host has a partition whose migration broke off, as far as both have shown themselves since.

    A running one is proof by itself. One at rest is not: the other side may run it.
    """
    if source and source.observed and source.observed.state is ObservedState.RUNNING:
        return RunsOn.SOURCE
    if target and target.observed and target.observed.state is ObservedState.RUNNING:
        return RunsOn.TARGET
    if source is None or target is None:
        return RunsOn.UNKNOWN
    if _stands(source):
        return RunsOn.SOURCE  # and if both have it, both at rest, what the target has is a stranger now
    return RunsOn.TARGET if _stands(target) else RunsOn.NEITHER


def _stands(seen: Sighting) -> bool:
    return seen.observed is not None and seen.observed.state in SEEN


async def find_side(inventory: Inventory, tx: Transaction, partition: Partition) -> None:
    """Settle on which of two hosts a partition is, if that can be told by now, and give back what it held elsewhere."""
    source_id, target_id = partition.host_id, partition.target_host_id
    if source_id is None or target_id is None:
        return
    side = side_of(partition.sightings.get(source_id), partition.sightings.get(target_id))
    if side is RunsOn.UNKNOWN:
        return
    sightings, partition.sightings = partition.sightings, {}
    await tx.hosts.give_back(held_on(partition, source_id if side is RunsOn.TARGET else target_id))
    inventory.retry_waiting_after(tx)
    if side is RunsOn.TARGET:
        await arrive(tx, partition)
    else:
        partition.target_host_id = None
    event = PartitionMigrated if side is RunsOn.TARGET else PartitionChanged
    where = "neither host" if side is RunsOn.NEITHER else partition.host_name
    await tx.tell_partition(event, partition, reason=f"its migration broke off, and {where} has it")
    partition.seen_at = None
    here = sightings.get(partition.host_id) if partition.host_id else None
    await judge(inventory, tx, partition, here or Sighting(observed=None, reason="", at=tx.now))


async def arrive(tx: Transaction, partition: Partition) -> None:
    """It is on the host that it was moved to, and only there."""
    target = await tx.hosts.get(partition.target_host_id) if partition.target_host_id else None
    partition.host_id = partition.target_host_id
    partition.host_name = target.name if target else None
    partition.target_host_id = None


def held_on(partition: Partition, host_id: UUID) -> Reservation:
    """What a partition holds on a host that has it, or may have it."""
    return Reservation(host_id=host_id, memory_mib=partition.memory_mib, cpus=partition.vcpus, partitions=1)
