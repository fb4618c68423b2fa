"""Operations in PostgreSQL."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json
from sqlalchemy import Select, any_, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE

from openqrm.contracts.errors import Problem
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.states import OperationState
from openqrm.inventory.adapters.columns import insert_columns, json_as_text, update_columns
from openqrm.inventory.adapters.tables import operations, resources
from openqrm.inventory.adapters.writes import Write, Writes
from openqrm.inventory.domain.moments import ASTRAY
from openqrm.inventory.domain.operation import Context, Operation, Phase
from openqrm.persistence.connection import Connection, Statement


class AlreadyTakenError(Exception):
    """Another delivery of the same command was faster."""


def select_operations() -> Select[Any]:
    """Everything that an Operation is made of, by `row_to_operation`."""
    return select(*(json_as_text(column) for column in operations.c))


def row_to_operation(row: Mapping[Any, Any]) -> Operation:
    """An Operation from a row of `select_operations`."""
    return Operation(
        id=row["id"],
        revision=row["revision"],
        verb=row["verb"],
        target_kind=TargetKind(row["target_kind"]),
        target_id=row["target_id"],
        target_name=row["target_name"],
        state=OperationState(row["state"]),
        phase=Phase(row["phase"]),
        requested_by=row["requested_by"],
        trace_id=row["trace_id"],
        trace_parent=row["trace_parent"],
        command=from_json(row["command"]),
        created_at=row["created_at"],
        touched_at=row["touched_at"],
        progress=row["progress"],
        step=row["step"],
        cancel_requested=row["cancel_requested"],
        error=Problem.model_validate_json(row["error"]) if row["error"] else None,
        result=from_json(row["result"]),
        context=Context.model_validate_json(row["context"]),
        parent_id=row["parent_id"],
        ended_at=row["ended_at"],
    )


def _values(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "revision": operation.revision,
        "target_id": operation.target_id,
        "target_name": operation.target_name,
        "state": operation.state.value,
        "phase": operation.phase.value,
        "progress": operation.progress,
        "step": operation.step,
        "cancel_requested": operation.cancel_requested,
        "error": operation.error.model_dump_json() if operation.error else None,
        "result": to_json(operation.result).decode(),
        "context": operation.context.model_dump_json(),
        "touched_at": operation.touched_at,
        "ended_at": operation.ended_at,
    }


def _lasting_values(operation: Operation) -> dict[str, Any]:
    return {
        "verb": operation.verb,
        "target_kind": operation.target_kind.value,
        "requested_by": operation.requested_by,
        "trace_id": operation.trace_id,
        "trace_parent": operation.trace_parent,
        "command": to_json(operation.command).decode(),
        "parent_id": operation.parent_id,
        "created_at": operation.created_at,
    }


_CHANGING = (
    "revision",
    "target_id",
    "target_name",
    "state",
    "phase",
    "progress",
    "step",
    "cancel_requested",
    "error",
    "result",
    "context",
    "touched_at",
    "ended_at",
)
_BY_ID = operations.c.id == bindparam("id")
_IDS = bindparam("ids", type_=ARRAY(UUID_TYPE(as_uuid=True)))
_OF_TARGET = operations.c.target_id == bindparam("target_id")
_QUEUED = operations.c.state == OperationState.QUEUED.value
_RUNNING = operations.c.state == OperationState.RUNNING.value
_oldest_first = (operations.c.created_at, operations.c.id)

_ADD = Statement(insert_columns(operations, *(column.name for column in operations.c)).on_conflict_do_nothing())
_SAVE = Statement(update_columns(operations, *_CHANGING).where(_BY_ID))
_GET = Statement(select_operations().where(_BY_ID))
_LOCK = Statement(select_operations().where(_BY_ID).with_for_update())
_LOCK_NEXT = Statement(
    select_operations().where(_OF_TARGET, _QUEUED).order_by(*_oldest_first).limit(1).with_for_update()
)
_LAST_QUEUED = Statement(select(func.max(operations.c.created_at)).where(_OF_TARGET, _QUEUED))
_COUNT_QUEUED = Statement(select(func.count()).where(_OF_TARGET, _QUEUED))
_TARGET_OF = Statement(select(operations.c.target_kind, operations.c.target_id).where(_BY_ID))
_LOCK_TARGET = Statement(
    select(operations.c.target_kind, resources.c.id)
    .join(resources, resources.c.id == operations.c.target_id)
    .where(_BY_ID)
    .with_for_update(key_share=True, of=resources)
)
_WAITING = Statement(
    select(operations.c.id).where(operations.c.state == OperationState.WAITING.value).order_by(*_oldest_first)
)
_STUCK = Statement(
    select(operations.c.id)
    .where(
        _RUNNING,
        operations.c.phase == Phase.PLACEMENT.value,
        or_(operations.c.touched_at < bindparam("before"), operations.c.touched_at > bindparam("astray")),
    )
    .order_by(*_oldest_first)
)
_ENDED_CHILDREN = Statement(
    select_operations().where(operations.c.id == any_(_IDS), operations.c.ended_at.is_not(None))
)
_UNFINISHED_CHILDREN = Statement(
    select(operations.c.id).where(operations.c.id == any_(_IDS), operations.c.ended_at.is_(None))
)
_WITH_CHILDREN = Statement(select(operations.c.id).where(_RUNNING, operations.c.phase == Phase.CHILDREN.value))
_ROUTED_TO = Statement(
    select_operations().where(
        _RUNNING,
        operations.c.phase == Phase.EXECUTION.value,
        operations.c.context["routed_to"].astext == bindparam("host_id"),
    )
)
_THAT_WILL_USE = Statement(
    text("SELECT target_name FROM operations WHERE state = 'running' AND context @> CAST(:used AS jsonb) LIMIT 1")
)
_IDLE_TARGETS = Statement(
    select(operations.c.target_id)
    .distinct()
    .join(resources, resources.c.id == operations.c.target_id)
    .where(_QUEUED, resources.c.operation_id.is_(None))
)


async def read_operation(connection: Connection, operation_id: UUID) -> Operation | None:
    """Read one without a lock."""
    row = await connection.one(_GET, id=operation_id)
    return row_to_operation(row) if row else None


class Operations:
    """The operations, within one transaction."""

    def __init__(self, connection: Connection, writes: Writes) -> None:
        self._connection = connection
        self._writes = writes

    def add(self, operation: Operation) -> None:
        """Insert a new one with the transaction's other writes. AlreadyTakenError then if there is one with its id."""
        self._writes.put(operation.id, operation, partial(_add, operation))

    def save(self, operation: Operation, now: datetime) -> None:
        """Write it back with the transaction's other writes."""
        operation.touched_at = now
        self._writes.put(operation.id, operation, partial(_save, operation))

    async def lock(self, operation_id: UUID) -> Operation | None:
        """Read one and keep others from changing it until the transaction ends."""
        await self._writes.flush_one(operation_id)
        row = await self._connection.one(_LOCK, id=operation_id)
        return row_to_operation(row) if row else None

    async def get(self, operation_id: UUID) -> Operation | None:
        """Read one without a lock."""
        await self._writes.flush_one(operation_id)
        return await read_operation(self._connection, operation_id)

    async def lock_next(self, target_id: UUID) -> Operation | None:
        """The next queued one of a target, in the order in which they came."""
        await self._writes.flush()
        row = await self._connection.one(_LOCK_NEXT, target_id=target_id)
        return row_to_operation(row) if row else None

    async def waiting_ids(self) -> list[UUID]:
        """Those that wait for capacity, the oldest first."""
        return await self._ids(_WAITING)

    async def stuck_in_placement(self, before: datetime, now: datetime) -> list[UUID]:
        """Those whose placement was begun and not followed up, as after a crash in between; the oldest first.

        Those touched in the future are among them: the clock was set back since.
        """
        return await self._ids(_STUCK, before=before, astray=now + ASTRAY)

    async def ended_children(self, ids: list[UUID]) -> list[Operation]:
        """Those of the given operations that have ended."""
        await self._writes.flush()
        return [row_to_operation(row) for row in await self._connection.all(_ENDED_CHILDREN, ids=ids)]

    async def unfinished_children(self, ids: list[UUID]) -> list[UUID]:
        """Those of the given operations that are known and have not ended."""
        return await self._ids(_UNFINISHED_CHILDREN, ids=ids)

    async def with_children(self) -> list[UUID]:
        """Those that wait for their parts."""
        return await self._ids(_WITH_CHILDREN)

    async def routed_to(self, host_id: UUID) -> list[Operation]:
        """Those whose outcome a host's executor owes."""
        await self._writes.flush()
        return [row_to_operation(row) for row in await self._connection.all(_ROUTED_TO, host_id=str(host_id))]

    async def that_will_use(self, network_id: UUID) -> str | None:
        """The name of a partition that will have a NIC on a network when the operation at work on it succeeds."""
        await self._writes.flush()
        used = to_json({"changes": {"nics": [{"network_id": network_id}]}}).decode()
        found: str | None = await self._connection.value(_THAT_WILL_USE, used=used)
        return found

    async def last_queued(self, target_id: UUID) -> datetime | None:
        """When the last of those came that wait for their turn on a target."""
        await self._writes.flush()
        found: datetime | None = await self._connection.value(_LAST_QUEUED, target_id=target_id)
        return found

    async def count_queued(self, target_id: UUID) -> int:
        """How many wait for their turn on a target."""
        await self._writes.flush()
        return int(await self._connection.value(_COUNT_QUEUED, target_id=target_id))

    async def target_of(self, operation_id: UUID) -> tuple[TargetKind, UUID | None] | None:
        """What an operation changes, without a lock; it stays the same for the operation's whole life."""
        row = await self._connection.one(_TARGET_OF, id=operation_id)
        return (TargetKind(row["target_kind"]), row["target_id"]) if row else None

    async def lock_target(self, operation_id: UUID) -> tuple[TargetKind, UUID] | None:
        """Lock the resource that an operation changes, before the operation itself; None if it changes none."""
        row = await self._connection.one(_LOCK_TARGET, id=operation_id)
        return (TargetKind(row["target_kind"]), row["id"]) if row else None

    async def idle_targets(self) -> list[UUID]:
        """Targets on which something is queued and nothing is at work, as after a crash in between."""
        return await self._ids(_IDLE_TARGETS)

    async def _ids(self, statement: Statement, **values: Any) -> list[UUID]:
        await self._writes.flush()
        return [row[0] for row in await self._connection.all(statement, **values)]


def _add(operation: Operation) -> list[Write]:
    return [Write(_ADD, _values(operation) | _lasting_values(operation), AlreadyTakenError)]


def _save(operation: Operation) -> list[Write]:
    return [Write(_SAVE, _values(operation))]
