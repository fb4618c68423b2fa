"""Moving every partition away from a host: one operation whose parts are migrations.

The parts are commands like any others, which say whose they are in `requested_by`. Each end of a part, and the sweeper,
lets the whole be looked at again; what counts is which parts have ended and what is still on the host.
"""

from functools import partial
from uuid import UUID

from openqrm.contracts.errors import CancelledError, ConflictError
from openqrm.contracts.host import HostChanged, HostMaintained
from openqrm.contracts.operation import CancelOperation, OperationProgressed, TargetKind
from openqrm.contracts.partition import MigratePartition
from openqrm.contracts.states import HostState, OperationState
from openqrm.inventory import engine
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction

_PREFIX = "operation "
TOLD = 5
"""Partitions that could not be moved which the error names; the others are counted."""


def parent_of(requested_by: str) -> UUID | None:
    """The operation that a command says to be a part of."""
    if not requested_by.startswith(_PREFIX):
        return None
    try:
        return UUID(requested_by.removeprefix(_PREFIX))
    except ValueError:
        return None


async def begin(tx: Transaction, operation: Operation, host: Host) -> bool:
    """Ask for the moves; False when there is nothing to move."""
    partitions = await tx.partitions.on_host(host.id)
    for partition in partitions:
        move = MigratePartition(requested_by=f"{_PREFIX}{operation.id}", partition=str(partition.id))
        operation.context.children.append(move.operation_id)
        tx.send(move, partition.id)
    if partitions:
        operation.state, operation.phase = OperationState.RUNNING, Phase.CHILDREN
        operation.step = f"moves {len(partitions)} partitions away"
    return bool(partitions)


def look_after(inventory: Inventory, tx: Transaction, operation: Operation) -> None:
    """An operation ended: once that is committed, look at the whole that it is a part of."""
    if operation.parent_id is not None:
        tx.after_commit.append(partial(advance, inventory, operation.parent_id))


async def advance(inventory: Inventory, evacuation_id: UUID) -> None:
    """See how far an evacuation is, and end it when all of its parts have ended. Harmless when repeated."""
    async with inventory.transaction() as tx:
        kind, host_id = await tx.operations.target_of(evacuation_id) or (None, None)
        if kind is not TargetKind.HOST or host_id is None:
            return
        host = await tx.hosts.lock(host_id)
        operation = await tx.operations.lock(evacuation_id)
        if host is None or operation is None or operation.phase is not Phase.CHILDREN:
            return
        children = operation.context.children
        ended = await tx.operations.ended_children(children)
        if len(ended) == len(children):
            await _end(tx, operation, host, ended)
            return
        percent = 100 * len(ended) // len(children)
        if percent != operation.progress:
            operation.progress = percent
            operation.step = f"{len(children) - len(ended)} of {len(children)} partitions are left to move"
            tx.tell_operation(OperationProgressed, operation)
            tx.operations.save(operation, tx.now)


async def _end(tx: Transaction, operation: Operation, host: Host, ended: list[Operation]) -> None:
    _leave(host, HostState.MAINTENANCE, "for maintenance")
    tx.tell_host(HostMaintained, host, operation.id)
    await tx.hosts.save(host, tx.now)
    left = await tx.partitions.on_host(host.id)
    if not left:
        await engine.end(tx, operation, None, {"moved": len(ended)})
        return
    reasons = {child.target_id: child.error.message for child in ended if child.error}
    told = "; ".join(f"{p.name}: {reasons.get(p.id, 'it came here in the meantime')}" for p in left[:TOLD])
    await engine.end(
        tx,
        operation,
        ConflictError(
            f"{len(left)} partitions are still on {host.name!r}, which takes no new ones now. {told} "
            "Move or stop them, then go on.",
            details={"partitions": [str(p.id) for p in left]},
        ),
    )


def _leave(host: Host, state: HostState, reason: str) -> None:
    """The evacuation is over; a host that was lost meanwhile takes the state when it answers again."""
    host.operation_id = None
    if host.state is HostState.DRAINING:
        host.settle(state, reason)
    else:
        host.usual_state = state


async def cancel(tx: Transaction, operation: Operation, host: Host) -> None:
    """End an evacuation: what was moved stays moved, what is on its way is called back."""
    for child in await tx.operations.unfinished_children(operation.context.children):
        tx.send(CancelOperation(requested_by=f"{_PREFIX}{operation.id}", target_operation_id=child), child)
    _leave(host, HostState(operation.context.state_before or HostState.MAINTENANCE), "")
    tx.tell_host(HostChanged, host, operation.id, "its evacuation was cancelled")
    await tx.hosts.save(host, tx.now)
    await engine.end(
        tx, operation, CancelledError(f"The evacuation of {host.name!r} was cancelled; {host.name!r} is {host.state}.")
    )
