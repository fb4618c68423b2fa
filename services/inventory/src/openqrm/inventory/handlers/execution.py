"""Reports from executors about routed commands."""

from openqrm.bus.delivery import Delivery
from openqrm.contracts.execution import ExecutionFailed, ExecutionProgressed, ExecutionSucceeded
from openqrm.contracts.operation import TargetKind
from openqrm.inventory import engine
from openqrm.inventory.adapters.tables import inbox
from openqrm.inventory.flows import hosts, partitions
from openqrm.inventory.inventory import Inventory
from openqrm.persistence.inbox import is_new


async def execution_succeeded(inventory: Inventory, report: ExecutionSucceeded, delivery: Delivery) -> None:
    """An executor carried a command out."""
    await _ended(inventory, report, delivery)


async def execution_failed(inventory: Inventory, report: ExecutionFailed, delivery: Delivery) -> None:
    """An executor could not carry a command out."""
    await _ended(inventory, report, delivery)


async def _ended(inventory: Inventory, report: ExecutionSucceeded | ExecutionFailed, delivery: Delivery) -> None:
    async with inventory.transaction() as tx:
        if not await is_new(tx.connection, inbox, delivery.message_id):
            return
        operation = await tx.operations.lock(report.operation_id)
        if operation is None or operation.is_ended or operation.context.routed_to != report.host_id:
            return  # the undoing of a failed creation, or a report that came twice
        if operation.target_kind is TargetKind.HOST:
            host = await tx.hosts.lock(report.host_id)
            if host is None or host.operation_id != operation.id:
                return
            if isinstance(report, ExecutionSucceeded):
                await hosts.succeeded(inventory, tx, operation, host, report)
            else:
                await hosts.failed(tx, operation, host, report)
            return
        partition = await tx.partitions.lock(report.partition_id) if report.partition_id else None
        if partition is None or partition.operation_id != operation.id:
            return
        if isinstance(report, ExecutionSucceeded):
            await partitions.succeeded(inventory, tx, operation, partition, report)
        else:
            await partitions.failed(inventory, tx, operation, partition, report)


async def execution_progressed(inventory: Inventory, report: ExecutionProgressed) -> None:
    """An executor came further with a long command."""
    await engine.progress(inventory, report.operation_id, report.progress, report.step)
