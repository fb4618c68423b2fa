"""Routed commands whose executor will never report: their operations end as failed."""

from uuid import UUID

from openqrm.contracts.errors import Problem
from openqrm.contracts.execution import ExecutionFailed, RunsOn
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.partition import MigratePartition
from openqrm.inventory.flows import outcomes
from openqrm.inventory.inventory import Inventory


async def fail(inventory: Inventory, operation_id: UUID, technology: str, error: Problem) -> None:
    """End an operation that is being executed as if its executor had reported the error, having seen nothing."""
    async with inventory.transaction() as tx:
        operation = await tx.operations.get(operation_id)
        if operation is None or operation.is_ended or operation.context.routed_to is None:
            return
    report = ExecutionFailed(
        operation_id=operation.id,
        host_id=operation.context.routed_to,
        technology=technology,
        partition_id=operation.target_id if operation.target_kind is TargetKind.PARTITION else None,
        epoch=None,
        subject_verb=operation.context.routed_verb or operation.verb,
        observed=None,
        error=error.model_copy(update={"details": {**error.details, "observed": "unreadable"}}),
        runs_on=RunsOn.UNKNOWN if operation.verb == MigratePartition.subject else None,
        ended_at=inventory.clock.now(),
    )
    await outcomes.take_in(inventory, report)
