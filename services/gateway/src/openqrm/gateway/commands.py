"""A command from its request to its answer: published on the bus, then awaited until inventory has said something."""

import re
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

from starlette.requests import Request
from starlette.responses import Response

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import HTTP_STATUS, ConflictError, OpenQrmError, ProblemCode, TemporaryError
from openqrm.contracts.ids import is_id, new_id
from openqrm.contracts.message import Command
from openqrm.contracts.operation import GetOperation, OperationView, TargetKind
from openqrm.contracts.states import OperationState
from openqrm.gateway.ask import Questions
from openqrm.gateway.guard import note_of, principal_of
from openqrm.gateway.problems import HttpError, invalid
from openqrm.gateway.routing import API, etag, json_response
from openqrm.gateway.waiters import Waiters, Watch, is_final
from openqrm.telemetry.tracing import current_trace_id

MAX_WAIT_SECONDS = 300
_IDEMPOTENCY = uuid5(NAMESPACE_URL, "urn:openqrm:idempotency-key")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")


@dataclass(frozen=True)
class Wish:
    """How a request wants its command handled."""

    operation_id: UUID
    repeated: bool
    """The caller chose the id, so the same command may have come before."""
    user: str
    expected_revision: int | None
    wait_seconds: int


def wish_of(request: Request, wait: int = 0) -> Wish:
    """Read the headers Idempotency-Key, If-Match and Prefer."""
    user = principal_of(request).user
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > 200:
        raise invalid("Idempotency-Key", "must have at most 200 characters", "200 characters")
    return Wish(
        operation_id=_operation_id(key, user),
        repeated=bool(key),
        user=user,
        expected_revision=expected_revision(request),
        wait_seconds=wait or _preferred_wait(request),
    )


def _operation_id(key: str, user: str) -> UUID:
    if not key:
        return new_id()
    return UUID(key) if is_id(key) else uuid5(_IDEMPOTENCY, f"{user}\n{key}")


def expected_revision(request: Request) -> int | None:
    """The revision in If-Match."""
    value = request.headers.get("if-match", "").strip()
    if value in ("", "*"):
        return None
    digits = value.removeprefix("W/").strip('"')
    if not re.fullmatch(r"\d{1,9}", digits):
        raise HttpError(
            412,
            "precondition-failed",
            f"If-Match names {value[:50]}, which is no ETag of ours: they look like {etag(7)}. "
            "Read the thing again and send the ETag that comes with it.",
        )
    return int(digits)


def _preferred_wait(request: Request) -> int:
    match = _PREFER_WAIT.search(request.headers.get("prefer", ""))
    return min(int(match.group(1)), MAX_WAIT_SECONDS) if match else 0


class Commands:
    """Sends commands and answers for them."""

    def __init__(self, bus: Bus, questions: Questions, waiters: Waiters, clock: Clock, accept_seconds: float) -> None:
        self._bus = bus
        self._questions = questions
        self._waiters = waiters
        self._clock = clock
        self._accept_seconds = accept_seconds

    async def send(self, request: Request, command: Command, wish: Wish, target: str) -> Response:
        """Publish a command and answer: refused, accepted (202), or ended when the request waits for that (200)."""
        note = note_of(request)
        note.verb, note.target, note.operation_id = command.subject, target, command.operation_id
        operation = await self.carry_out(command, wish, target)
        if operation.target_id is not None:
            note.target = str(operation.target_id)
        return operation_response(operation, wish)

    async def carry_out(self, command: Command, wish: Wish, target: str) -> OperationView:
        """Publish a command and return its operation as soon as the wish is met; raise if it is refused."""
        with self._waiters.watch(command.operation_id) as watch:
            operation = await self.known(type(command), wish)
            if operation is None:
                await self._publish(command)
                operation = await watch.first(self._accept_seconds) or await self._asked(command.operation_id)
            if operation is None:
                return self._unanswered(command, wish, target)
            operation = await self._until_end(watch, operation, wish.wait_seconds)
        if operation.state is OperationState.REJECTED and operation.error is not None:
            raise _refused(operation)
        return operation

    async def _publish(self, command: Command) -> None:
        self._questions.check()
        try:
            await self._bus.publish(command)
        except TemporaryError as error:
            raise TemporaryError(
                f"The bus did not confirm {command.subject} in time, and it is not known whether it was taken. "
                f"Send it again with the header 'Idempotency-Key: {command.operation_id}': it is done once at most.",
                details={"operation_id": str(command.operation_id)},
                retry_after=2.0,
            ) from error

    async def read(self, operation_id: UUID, wait_seconds: int) -> OperationView:
        """An operation, as soon as it has ended or the time is over."""
        with self._waiters.watch(operation_id) as watch:
            try:
                operation = await self._questions.ask(GetOperation(operation_id=operation_id))
            except OpenQrmError as error:
                if error.code is not ProblemCode.NOT_FOUND or not wait_seconds:
                    raise
                # Its command may still be on the bus, waiting for inventory.
                begun = await watch.first(wait_seconds)
                if begun is None:
                    raise
                operation = begun
            return await self._until_end(watch, operation, wait_seconds)

    async def _until_end(self, watch: Watch, operation: OperationView, seconds: float) -> OperationView:
        if not seconds or is_final(operation):
            return operation
        watch.hear(operation)
        operation = await watch.end(seconds) or operation
        if not is_final(operation):
            # An event can be late; the last word is inventory's.
            operation = await self._asked(operation.id) or operation
        return operation

    async def known(self, command: type[Command], wish: Wish) -> OperationView | None:
        """The operation, if the same command came before."""
        if not wish.repeated:
            return None
        try:
            operation = await self._questions.ask(GetOperation(operation_id=wish.operation_id))
        except OpenQrmError as error:
            if error.code is ProblemCode.NOT_FOUND:
                return None
            raise
        if operation.verb != command.subject:
            raise ConflictError(
                f"The Idempotency-Key was used for {operation.verb} already, and this is {command.subject}. "
                "Use a new key for a new request.",
                details={"operation_id": str(operation.id)},
            )
        return operation

    async def _asked(self, operation_id: UUID) -> OperationView | None:
        try:
            return await self._questions.ask(GetOperation(operation_id=operation_id), timeout=2)
        except TemporaryError:
            return None
        except OpenQrmError as error:
            if error.code is ProblemCode.NOT_FOUND:
                return None
            raise

    def _unanswered(self, command: Command, wish: Wish, target: str) -> OperationView:
        """The bus keeps the command; inventory has not taken it yet."""
        noun = command.subject.split(".")[0]
        return OperationView(
            id=command.operation_id,
            revision=0,
            verb=command.subject,
            target_kind=TargetKind(noun) if noun in list(TargetKind) else TargetKind.OPERATION,
            target_id=None,
            target_name=target[:200],
            state=OperationState.QUEUED,
            progress=0,
            step="The command is kept, and inventory has not taken it yet. Ask for the operation again in a while.",
            cancellable=False,
            cancel_requested=False,
            error=None,
            result={},
            requested_by=wish.user,
            trace_id=current_trace_id(),
            created_at=self._clock.now(),
            ended_at=None,
        )


def _refused(operation: OperationView) -> HttpError:
    problem = operation.error
    assert problem is not None  # noqa: S101 - asked by the caller
    return HttpError(
        HTTP_STATUS[problem.code],
        problem.code.value,
        problem.message,
        fields=problem.fields,
        details={**problem.details, "operation_id": str(operation.id)},
        headers={"Location": location_of(operation.id)},
    )


def location_of(operation_id: UUID) -> str:
    """The address of an operation."""
    return f"{API}/operations/{operation_id}"


def operation_response(operation: OperationView, wish: Wish) -> Response:
    """200 when the request waited and the operation has ended, else 202."""
    headers = {"Location": location_of(operation.id), "ETag": etag(operation.revision)}
    ended = is_final(operation)
    if wish.wait_seconds:
        headers["Preference-Applied"] = f"wait={wish.wait_seconds}"
    if not ended:
        headers["Retry-After"] = "1"
    return json_response(operation, 200 if wish.wait_seconds and ended else 202, headers)
