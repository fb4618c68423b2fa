"""The end of a routed command, as its executor reports it, brought to the operation that it belongs to."""

from openqrm.contracts.execution import ExecutionFailed, ExecutionSucceeded
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.partition import MigratePartition
from openqrm.inventory.domain.partition import Partition, Sighting
from openqrm.inventory.flows import hosts, partitions, reconciling
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def take_in(
    inventory: Inventory, report: ExecutionSucceeded | ExecutionFailed, message_id: str | None = None
) -> None:
    """End the operation, unless the report came before (by its `message_id`) or is not the one that is awaited."""
    async with inventory.transaction() as tx:
        if message_id is not None:
            tx.note_handled(message_id)
        kind, target_id = await tx.operations.lock_target(report.operation_id) or (None, None)
        if target_id is None:
            return
        host = await tx.hosts.get(target_id) if kind is TargetKind.HOST else None
        partition = await tx.partitions.get(target_id) if kind is TargetKind.PARTITION else None
        operation = await tx.operations.lock(report.operation_id)
        if operation is None:
            return
        if operation.is_ended:
            if partition is not None:
                await _learn(inventory, tx, partition, report)
            return
        awaited = operation.context.routed_to, operation.context.routed_verb or report.subject_verb
        if awaited != (report.host_id, report.subject_verb):
            return  # of an earlier step of the same operation
        if host is not None and host.operation_id == operation.id:
            if isinstance(report, ExecutionSucceeded):
                await hosts.succeeded(inventory, tx, operation, host, report)
            else:
                await hosts.failed(tx, operation, host, report)
        elif partition is not None and partition.operation_id == operation.id:
            if isinstance(report, ExecutionSucceeded):
                await partitions.succeeded(inventory, tx, operation, partition, report)
            else:
                await partitions.failed(inventory, tx, operation, partition, report)


async def _learn(
    inventory: Inventory, tx: Transaction, partition: Partition, report: ExecutionSucceeded | ExecutionFailed
) -> None:
    """The report comes too late for its operation, but what the executor saw is as good as any observation."""
    arrived = report.subject_verb == MigratePartition.subject and isinstance(report, ExecutionSucceeded)
    host_id = partition.target_host_id if arrived else report.host_id
    if report.observed is None or report.epoch != partition.epoch or host_id is None:
        return
    if host_id in (partition.host_id, partition.target_host_id):
        seen = Sighting(observed=report.observed, reason="", at=report.ended_at)
        await reconciling.take_in(inventory, tx, host_id, partition, seen)
