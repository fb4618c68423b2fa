"""Operations in PostgreSQL."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from openqrm.contracts.errors import Problem
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.states import OperationState
from openqrm.inventory.adapters.tables import operations, resources
from openqrm.inventory.domain.moments import ASTRAY
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

    async def waiting_ids(self) -> list[UUID]:
        """Those that wait for capacity, the oldest first."""
        statement = (
            select(operations.c.id)
            .where(operations.c.state == OperationState.WAITING.value)
            .order_by(operations.c.created_at, operations.c.id)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def stuck_in_placement(self, before: datetime, now: datetime) -> list[UUID]:
        """Those whose placement was begun and not followed up, as after a crash in between; the oldest first.

        Those touched in the future are among them: the clock was set back since.
        """
        statement = (
            select(operations.c.id)
            .where(
                operations.c.state == OperationState.RUNNING.value,
                operations.c.phase == Phase.PLACEMENT.value,
                or_(operations.c.touched_at < before, operations.c.touched_at > now + ASTRAY),
            )
            .order_by(operations.c.created_at, operations.c.id)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def ended_children(self, ids: list[UUID]) -> list[Operation]:
        """Those of the given operations that have ended."""
        statement = select(operations).where(operations.c.id.in_(ids), operations.c.ended_at.is_not(None))
        return [row_to_operation(row) for row in await self._connection.execute(statement)]

    async def unfinished_children(self, ids: list[UUID]) -> list[UUID]:
        """Those of the given operations that are known and have not ended."""
        statement = select(operations.c.id).where(operations.c.id.in_(ids), operations.c.ended_at.is_(None))
        return list((await self._connection.execute(statement)).scalars())

    async def with_children(self) -> list[UUID]:
        """Those that wait for their parts."""
        statement = select(operations.c.id).where(
            operations.c.state == OperationState.RUNNING.value, operations.c.phase == Phase.CHILDREN.value
        )
        return list((await self._connection.execute(statement)).scalars())

    async def routed_to(self, host_id: UUID) -> list[Operation]:
        """Those whose outcome a host's executor owes."""
        statement = select(operations).where(
            operations.c.state == OperationState.RUNNING.value,
            operations.c.phase == Phase.EXECUTION.value,
            operations.c.context["routed_to"].astext == str(host_id),
        )
        return [row_to_operation(row) for row in await self._connection.execute(statement)]

    async def that_will_use(self, network_id: UUID) -> str | None:
        """The name of a partition that will have a NIC on a network when the operation at work on it succeeds."""
        statement = (
            select(operations.c.target_name)
            .where(
                operations.c.state == OperationState.RUNNING.value,
                operations.c.context.contains({"changes": {"nics": [{"network_id": str(network_id)}]}}),
            )
            .limit(1)
        )
        found: str | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return found

    async def last_queued(self, target_id: UUID) -> datetime | None:
        """When the last of those came that wait for their turn on a target."""
        statement = select(func.max(operations.c.created_at)).where(
            operations.c.target_id == target_id, operations.c.state == OperationState.QUEUED.value
        )
        found: datetime | None = (await self._connection.execute(statement)).scalar_one()
        return found

    async def count_queued(self, target_id: UUID) -> int:
        """How many wait for their turn on a target."""
        statement = select(func.count()).where(
            operations.c.target_id == target_id, operations.c.state == OperationState.QUEUED.value
        )
        return int((await self._connection.execute(statement)).scalar_one())

    async def target_of(self, operation_id: UUID) -> tuple[TargetKind, UUID | None] | None:
        """What an operation changes, without a lock; it stays the same for the operation's whole life."""
        statement = select(operations.c.target_kind, operations.c.target_id).where(operations.c.id == operation_id)
        row = (await self._connection.execute(statement)).one_or_none()
        return (TargetKind(row.target_kind), row.target_id) if row else None

    async def idle_targets(self) -> list[UUID]:
        """Targets on which something is queued and nothing is at work, as after a crash in between."""
        statement = (
            select(operations.c.target_id)
            .distinct()
            .join(resources, resources.c.id == operations.c.target_id)
            .where(operations.c.state == OperationState.QUEUED.value, resources.c.operation_id.is_(None))
        )
        return list((await self._connection.execute(statement)).scalars())
