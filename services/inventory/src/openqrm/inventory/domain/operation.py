"""An operation as inventory works on it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.errors import Problem
from openqrm.contracts.operation import OperationView, TargetKind
from openqrm.contracts.states import FINAL_OPERATION_STATES, OperationState


class Phase(StrEnum):
    """What an unfinished operation waits for."""

    TURN = "turn"
    """Its turn on its target, or capacity."""
    PLACEMENT = "placement"
    """A host, from the scheduler."""
    EXECUTION = "execution"
    """The executor's report."""
    CHILDREN = "children"
    """The operations that are parts of it."""
    DONE = "done"


class Reservation(BaseModel):
    """Capacity on a host."""

    model_config = ConfigDict(frozen=True)

    host_id: UUID
    memory_mib: int
    cpus: int
    partitions: int


class Context(BaseModel):
    """What an operation keeps until its end."""

    changes: dict[str, Any] = Field(default_factory=dict, description="Partition fields to set when it succeeds")
    state_before: str | None = None
    taken: list[Reservation] = Field(default_factory=list, description="To give back when it fails")
    given_up: list[Reservation] = Field(default_factory=list, description="To give back when it succeeds")
    macs_taken: list[str] = Field(default_factory=list, description="To release when it fails")
    macs_given_up: list[str] = Field(default_factory=list, description="To release when it succeeds")
    routed_to: UUID | None = Field(default=None, description="The host whose executor has it")
    routed_verb: str | None = Field(default=None, description="What that executor was told last, as partition.stop")
    children: list[UUID] = Field(default_factory=list, description="The operations that are its parts")


CANCELLABLE_WHILE_EXECUTING = frozenset({"partition.migrate"})


@dataclass
class Operation:
    """The mutable aggregate."""

    id: UUID
    revision: int
    verb: str
    target_kind: TargetKind
    target_id: UUID | None
    target_name: str
    state: OperationState
    phase: Phase
    requested_by: str
    trace_id: str | None
    trace_parent: str | None
    command: dict[str, Any]
    created_at: datetime
    touched_at: datetime
    progress: int = 0
    step: str = ""
    cancel_requested: bool = False
    error: Problem | None = None
    result: dict[str, Any] = field(default_factory=dict)
    context: Context = field(default_factory=Context)
    parent_id: UUID | None = None
    ended_at: datetime | None = None

    @property
    def carrier(self) -> dict[str, str]:
        """The trace that it belongs to, as headers."""
        return {"traceparent": self.trace_parent} if self.trace_parent else {}

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL_OPERATION_STATES

    @property
    def cancellable(self) -> bool:
        """Whether `operation.cancel` can end it now."""
        if self.is_ended or self.cancel_requested:
            return False
        if self.state in (OperationState.QUEUED, OperationState.WAITING):
            return True
        return self.phase in (Phase.PLACEMENT, Phase.CHILDREN) or self.verb in CANCELLABLE_WHILE_EXECUTING

    def view(self) -> OperationView:
        """The operation as others see it."""
        return OperationView(
            id=self.id,
            revision=self.revision,
            verb=self.verb,
            target_kind=self.target_kind,
            target_id=self.target_id,
            target_name=self.target_name,
            state=self.state,
            progress=self.progress,
            step=self.step,
            cancellable=self.cancellable,
            cancel_requested=self.cancel_requested,
            error=self.error,
            result=self.result,
            requested_by=self.requested_by,
            trace_id=self.trace_id,
            created_at=self.created_at,
            ended_at=self.ended_at,
        )
