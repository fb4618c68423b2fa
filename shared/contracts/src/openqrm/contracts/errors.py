"""What can go wrong, in two kinds: try again later (temporary), or never again like this (permanent).

Each error carries a code for programs, a sentence for people, and crosses the bus as a `Problem`.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ProblemCode(StrEnum):
    """Stable words for programs; `HTTP_STATUS` tells what the gateway answers for each."""

    INVALID = "invalid"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    WRONG_STATE = "wrong-state"
    DUPLICATE = "duplicate"
    PRECONDITION = "precondition-failed"
    FORBIDDEN = "forbidden"
    UNSUPPORTED = "unsupported"
    EXHAUSTED = "exhausted"
    NO_FIT = "no-fit"
    STALE_EPOCH = "stale-epoch"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    UNAVAILABLE = "unavailable"
    HOST_FAILED = "host-failed"
    DRIVER_FAILED = "driver-failed"
    INTERNAL = "internal"


HTTP_STATUS: dict[ProblemCode, int] = {
    ProblemCode.INVALID: 422,
    ProblemCode.NOT_FOUND: 404,
    ProblemCode.CONFLICT: 409,
    ProblemCode.WRONG_STATE: 409,
    ProblemCode.DUPLICATE: 409,
    ProblemCode.PRECONDITION: 412,
    ProblemCode.FORBIDDEN: 403,
    ProblemCode.UNSUPPORTED: 409,
    ProblemCode.EXHAUSTED: 409,
    ProblemCode.NO_FIT: 409,
    ProblemCode.STALE_EPOCH: 409,
    ProblemCode.CANCELLED: 409,
    ProblemCode.TIMED_OUT: 504,
    ProblemCode.UNAVAILABLE: 503,
    ProblemCode.HOST_FAILED: 502,
    ProblemCode.DRIVER_FAILED: 502,
    ProblemCode.INTERNAL: 500,
}


class FieldProblem(BaseModel):
    """One field of the input that cannot be accepted, and why."""

    model_config = ConfigDict(frozen=True)

    field: str = Field(description="Dotted path into the input, such as disks.0.size_mib")
    message: str
    limit: str | None = Field(default=None, description="The limit that was passed, if it is one")


class Problem(BaseModel):
    """An error as it crosses the bus and as an operation keeps it."""

    model_config = ConfigDict(frozen=True)

    code: ProblemCode
    message: str = Field(description="What happened, to what, and what to do next")
    fields: tuple[FieldProblem, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict, description="More for programs, such as allowed verbs")
    retry_after: float | None = Field(default=None, description="Seconds after which trying again makes sense")


class OpenQrmError(Exception):
    """Base of every error that may cross the bus."""

    code = ProblemCode.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        code: ProblemCode | None = None,
        fields: tuple[FieldProblem, ...] = (),
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = fields
        self.details = details or {}
        self.retry_after = retry_after

    def problem(self) -> Problem:
        """The error as a value that can be sent."""
        return Problem(
            code=self.code,
            message=self.message,
            fields=self.fields,
            details=self.details,
            retry_after=self.retry_after,
        )


class TemporaryError(OpenQrmError):
    """It may work later: the bus delivers the message again after `retry_after` seconds."""

    code = ProblemCode.UNAVAILABLE


class PermanentError(OpenQrmError):
    """It will never work like this: the message is ended and the operation fails."""


class InvalidError(PermanentError):
    """The input is wrong; `fields` names what and why."""

    code = ProblemCode.INVALID


class NotFoundError(PermanentError):
    """What is named does not exist."""

    code = ProblemCode.NOT_FOUND


class WrongStateError(PermanentError):
    """The thing is in a state in which this verb is not allowed."""

    code = ProblemCode.WRONG_STATE


class DuplicateError(PermanentError):
    """Another thing has this name or address already."""

    code = ProblemCode.DUPLICATE


class ConflictError(PermanentError):
    """The request contradicts what is there."""

    code = ProblemCode.CONFLICT


class UnsupportedError(PermanentError):
    """The technology cannot do this; the message says why."""

    code = ProblemCode.UNSUPPORTED


class ExhaustedError(PermanentError):
    """A finite range, such as a MAC namespace, has nothing left."""

    code = ProblemCode.EXHAUSTED


class NoFitError(PermanentError):
    """No host can take the partition; `details` has the counts per reason."""

    code = ProblemCode.NO_FIT


class StaleEpochError(PermanentError):
    """A newer placement of this partition exists: this command must not be carried out."""

    code = ProblemCode.STALE_EPOCH


class CancelledError(PermanentError):
    """The operation was cancelled on request."""

    code = ProblemCode.CANCELLED


class TimedOutError(PermanentError):
    """It took longer than its limit; what stands on the host is observed afterwards."""

    code = ProblemCode.TIMED_OUT


class DriverError(PermanentError):
    """The hypervisor refused or failed."""

    code = ProblemCode.DRIVER_FAILED


class HostUnreachableError(TemporaryError):
    """The host does not answer."""

    code = ProblemCode.HOST_FAILED


_TEMPORARY_CODES = {ProblemCode.UNAVAILABLE, ProblemCode.HOST_FAILED}


def error_from(problem: Problem) -> OpenQrmError:
    """The exception that a received problem stands for."""
    kind = TemporaryError if problem.code in _TEMPORARY_CODES else PermanentError
    return kind(
        problem.message,
        code=problem.code,
        fields=problem.fields,
        details=problem.details,
        retry_after=problem.retry_after,
    )
