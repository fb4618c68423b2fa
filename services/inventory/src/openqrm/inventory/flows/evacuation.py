"""Moving every partition away from a host: one operation whose parts are migrations."""

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from openqrm.contracts.errors import PermanentError, ProblemCode
from openqrm.contracts.host import HostMaintained
from openqrm.contracts.operation import OperationProgressed
from openqrm.contracts.partition import MigratePartition
from openqrm.contracts.states import HostState, OperationState
from openqrm.inventory import engine
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation, Phase

if TYPE_CHECKING:
    from openqrm.inventory.transaction import Transaction


def migration_id(evacuation: UUID, partition: UUID) -> UUID:
    """The operation id of one partition's move, the same however often the evacuation is begun."""
    return uuid5(evacuation, str(partition))


async def begin(tx: "Transaction", operation: Operation, host: Host) -> bool:
    """Ask for the moves; False when there is nothing to move."""
    ids = await tx.partitions.ids_on(host.id)
    for partition_id in ids:
        move = MigratePartition(
            operation_id=migration_id(operation.id, partition_id),
            requested_by=f"operation {operation.id}",
            partition=str(partition_id),
            wait_for_capacity=False,
        )
        tx.send(move, partition_id)
    if ids:
        operation.state, operation.phase = OperationState.RUNNING, Phase.CHILDREN
        operation.step = f"moves {len(ids)} partitions away"
        operation.context.changes = {"children": {str(migration_id(operation.id, i)): "running" for i in ids}}
    return bool(ids)


async def child_ended(tx: "Transaction", child: Operation) -> None:
    """Note the end of a move; after the last one the host is in maintenance."""
    prefix = "operation "
    if not child.requested_by.startswith(prefix):
        return
    try:
        parent = await tx.operations.lock(UUID(child.requested_by.removeprefix(prefix)))
    except ValueError:
        return
    children = parent.context.changes.get("children", {}) if parent else {}
    if parent is None or parent.phase is not Phase.CHILDREN or children.get(str(child.id)) != "running":
        return
    children[str(child.id)] = child.state.value
    if child.state is not OperationState.SUCCEEDED:
        why = child.error.message if child.error else child.state.value
        parent.context.children_failed.append(f"{child.target_name}: {why}")
    left = sum(state == "running" for state in children.values())
    parent.progress = 100 * (len(children) - left) // len(children)
    parent.step = f"{left} partitions are left to move"
    if left:
        tx.tell_operation(OperationProgressed, parent)
        await tx.operations.save(parent, tx.now)
        return
    host = await tx.hosts.lock(parent.target_id) if parent.target_id else None
    if host is not None:
        host.operation_id = None
        if host.state is HostState.DRAINING:
            host.settle(HostState.MAINTENANCE, "for maintenance")
        tx.tell_host(HostMaintained, host, parent.id)
        await tx.hosts.save(host, tx.now)
    failed = parent.context.children_failed
    error = (
        PermanentError(
            f"{len(failed)} of {len(children)} partitions could not be moved away from {parent.target_name!r}, which "
            f"takes no new ones now: {'; '.join(failed[:5])}. Move or stop them, then go on.",
            code=ProblemCode.CONFLICT,
        )
        if failed
        else None
    )
    await engine.end(tx, parent, error)
