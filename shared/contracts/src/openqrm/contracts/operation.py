"""Operations: each requested change from its acceptance to its end."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.errors import Problem
from openqrm.contracts.message import Command, Event, Query
from openqrm.contracts.paging import Page, Paging
from openqrm.contracts.states import OperationState


class TargetKind(StrEnum):
    """What an operation changes."""

    PARTITION = "partition"
    HOST = "host"
    NETWORK = "network"
    IMAGE = "image"
    OPERATION = "operation"
    MESSAGE = "message"


class OperationView(BaseModel):
    """An operation as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int
    verb: str = Field(description="The command's subject, such as partition.start")
    target_kind: TargetKind
    target_id: UUID | None = Field(description="None when what was named does not exist")
    target_name: str
    state: OperationState
    progress: int = Field(ge=0, le=100, description="Percent")
    step: str = Field(description="What is being done now, in words")
    cancellable: bool
    cancel_requested: bool
    error: Problem | None
    result: dict[str, object] = Field(description="What came of it, such as what host.prepare changed")
    requested_by: str
    trace_id: str | None
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class CancelOperation(Command, subject="operation.cancel"):
    """End an operation that is queued, waiting, or whose verb can be cancelled while it runs (a migration)."""

    target_operation_id: UUID


class OperationEvent(Event):
    """Something about an operation; carries it whole."""

    operation: OperationView


class OperationAccepted(OperationEvent, subject="operation.accepted"):
    """The command was checked and will be carried out; it runs, is queued, or waits."""


class OperationRejected(OperationEvent, subject="operation.rejected"):
    """The command was refused; nothing was changed."""


class OperationProgressed(OperationEvent, subject="operation.progressed"):
    """It came further, or passed from queued or waiting to running."""


class OperationSucceeded(OperationEvent, subject="operation.succeeded"):
    """It is done."""


class OperationFailed(OperationEvent, subject="operation.failed"):
    """It ended without success; the error says what happened and what to do next."""


class OperationCancelled(OperationEvent, subject="operation.cancelled"):
    """It was ended on request."""


class GetOperation(Query[OperationView], subject="operation.get"):
    """One operation."""

    operation_id: UUID


class ListOperations(Query[Page[OperationView]], subject="operation.list"):
    """Operations, the newest first unless asked otherwise."""

    state: OperationState | None = None
    verb: str | None = None
    target_id: UUID | None = None
    paging: Paging = Paging(descending=True)
