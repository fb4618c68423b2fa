"""Operations in PostgreSQL."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from openqrm.contracts.errors import Problem
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.states import OperationState
from openqrm.inventory.adapters.tables import operations
from openqrm.inventory.domain.operation import Context, Operation, Phase


def row_to_operation(row: Row[Any]) -> Operation:
    """An Operation from a row of the operations table."""
    return Operation(
        id=row.id,
        revision=row.revision,
        verb=row.verb,
        target_kind=TargetKind(row.target_kind),
        target_id=row.target_id,
        target_name=row.target_name,
        state=OperationState(row.state),
        phase=Phase(row.phase),
        requested_by=row.requested_by,
        trace_id=row.trace_id,
        trace_parent=row.trace_parent,
        command=row.command,
        created_at=row.created_at,
        touched_at=row.touched_at,
        progress=row.progress,
        step=row.step,
        cancel_requested=row.cancel_requested,
        error=Problem.model_validate(row.error) if row.error else None,
        result=row.result,
        context=Context.model_validate(row.context),
        parent_id=row.parent_id,
        ended_at=row.ended_at,
    )


def _values(operation: Operation) -> dict[str, Any]:
    return {
        "revision": operation.revision,
        "target_id": operation.target_id,
        "target_name": operation.target_name,
        "state": operation.state.value,
        "phase": operation.phase.value,
        "progress": operation.progress,
        "step": operation.step,
        "cancel_requested": operation.cancel_requested,
        "error": operation.error.model_dump(mode="json") if operation.error else None,
        "result": operation.result,
        "context": operation.context.model_dump(mode="json"),
        "touched_at": operation.touched_at,
        "ended_at": operation.ended_at,
    }


class Operations:
    """The operations, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def exists(self, operation_id: UUID) -> bool:
        """Whether a command with this id was taken before."""
        statement = select(operations.c.id).where(operations.c.id == operation_id)
        return (await self._connection.execute(statement)).scalar_one_or_none() is not None

    async def add(self, operation: Operation) -> bool:
        """Insert a new one; False if another delivery of the same command was faster."""
        statement = (
            insert(operations)
            .values(
                id=operation.id,
                verb=operation.verb,
                target_kind=operation.target_kind.value,
                requested_by=operation.requested_by,
                trace_id=operation.trace_id,
                trace_parent=operation.trace_parent,
                command=operation.command,
                parent_id=operation.parent_id,
                created_at=operation.created_at,
                **_values(operation),
            )
            .on_conflict_do_nothing()
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def save(self, operation: Operation, now: datetime) -> None:
        """Write it back."""
        operation.touched_at = now
        await self._connection.execute(
            update(operations).where(operations.c.id == operation.id).values(**_values(operation))
        )

    async def lock(self, operation_id: UUID) -> Operation | None:
        """Read one and keep others from changing it until the transaction ends."""
        statement = select(operations).where(operations.c.id == operation_id).with_for_update()
        row = (await self._connection.execute(statement)).one_or_none()
        return row_to_operation(row) if row else None

    async def get(self, operation_id: UUID) -> Operation | None:
        """Read one without a lock."""
        row = (await self._connection.execute(select(operations).where(operations.c.id == operation_id))).one_or_none()
        return row_to_operation(row) if row else None

    async def lock_next(self, target_id: UUID) -> Operation | None:
        """The next queued one of a target, in the order in which they came."""
        statement = (
            select(operations)
            .where(operations.c.target_id == target_id, operations.c.state == OperationState.QUEUED.value)
            .order_by(operations.c.created_at, operations.c.id)
            .limit(1)
            .with_for_update()
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return row_to_operation(row) if row else None

    async def waiting_ids(self, limit: int = 200) -> list[UUID]:
        """Those that wait for capacity, the oldest first."""
        statement = (
            select(operations.c.id)
            .where(operations.c.state == OperationState.WAITING.value)
            .order_by(operations.c.created_at)
            .limit(limit)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def stuck_in_placement(self, before: datetime) -> list[UUID]:
        """Those whose placement was begun and not followed up, as after a crash in between."""
        statement = select(operations.c.id).where(
            operations.c.state == OperationState.RUNNING.value,
            operations.c.phase == Phase.PLACEMENT.value,
            operations.c.touched_at < before,
        )
        return list((await self._connection.execute(statement)).scalars())

    async def running_children(self, parent_id: UUID) -> int:
        """How many parts of an operation have not ended."""
        unfinished = (OperationState.QUEUED.value, OperationState.WAITING.value, OperationState.RUNNING.value)
        statement = select(operations.c.id).where(
            operations.c.parent_id == parent_id, operations.c.state.in_(unfinished)
        )
        return len((await self._connection.execute(statement)).all())
