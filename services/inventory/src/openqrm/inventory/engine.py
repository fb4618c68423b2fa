"""Operations from acceptance to end: accept, queue, begin, place, finish, and on to the next in the queue.

Each step is one transaction and does nothing when it finds that it was done before, so that a message that comes
twice, or a crash between two steps, changes nothing.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from openqrm.contracts.errors import (
    ConflictError,
    FieldProblem,
    InvalidError,
    NoFitError,
    OpenQrmError,
    PermanentError,
    Problem,
    ProblemCode,
    TemporaryError,
    WrongStateError,
)
from openqrm.contracts.execution import ExecuteCancelOperation
from openqrm.contracts.message import Command, RoutedCommand
from openqrm.contracts.operation import (
    OperationAccepted,
    OperationCancelled,
    OperationFailed,
    OperationProgressed,
    OperationRejected,
    OperationSucceeded,
    TargetKind,
)
from openqrm.contracts.placement import PlacementProposal, PlacementRequest
from openqrm.contracts.states import OperationState
from openqrm.inventory.adapters.operations import AlreadyTakenError
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.telemetry.tracing import current_trace_id, inject

UseCase = Callable[[Transaction, Operation], Awaitable[None]]
"""Checks a command, finds its target, and begins, queues or ends the operation. Raises PermanentError to refuse."""

PLACEMENT_TRIES = 6
"""How often a placement is asked for anew when another one took the capacity in between."""
PLACEMENT_PAUSE_SECONDS = 0.1
"""When every host that was proposed is taken: what the scheduler is given to hear of it. Longer with every try."""
MAX_QUEUED = 100
"""Operations that may wait on one target. Whoever sends more does so by mistake, or to do harm."""


class ContendedError(TemporaryError):
    """Others took each host that was found, again and again."""


async def submit(
    inventory: Inventory,
    command: Command,
    target_kind: TargetKind,
    target_name: str,
    use_case: UseCase,
    on_rejected: UseCase | None = None,
) -> None:
    """Take a command: one operation per operation_id, accepted or rejected.

    Raises ConflictError when the id belongs to another command: there is no operation then that could be rejected.
    """
    operation = _new_operation(inventory, command, target_kind, target_name)
    try:
        try:
            async with inventory.transaction() as tx:
                try:
                    await use_case(tx, operation)
                except ValidationError as error:
                    raise _impossible(error) from error
                tx.tell_operation(OperationAccepted, operation, first=True)
                if operation.state is OperationState.SUCCEEDED:
                    tx.tell_operation(OperationSucceeded, operation)
                tx.operations.add(operation)
        except PermanentError as error:
            async with inventory.transaction() as tx:
                rejected = _new_operation(inventory, command, target_kind, target_name)
                rejected.target_id, rejected.target_name = operation.target_id, operation.target_name
                rejected.parent_id = operation.parent_id
                _end(rejected, tx, OperationState.REJECTED, error.problem())
                tx.tell_operation(OperationRejected, rejected)
                tx.operations.add(rejected)
                if on_rejected:
                    await on_rejected(tx, rejected)
    except AlreadyTakenError:
        async with inventory.transaction() as tx:
            before = await tx.operations.get(operation.id)
        if before is not None:
            _check_same(before, command)


def _check_same(before: Operation, command: Command) -> None:
    said = command.model_dump(mode="json", exclude={"operation_id", "requested_by"}, exclude_unset=True)
    if before.verb != command.subject or any(before.command.get(field) != value for field, value in said.items()):
        raise ConflictError(
            f"The operation {before.id} is another one: {before.verb} of {before.target_name!r}. "
            "Choose a new operation_id for each command."
        )


def _impossible(error: ValidationError) -> InvalidError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return InvalidError(
        f"This cannot be: {where}: {first['msg']}.", fields=(FieldProblem(field=where, message=first["msg"]),)
    )


def _new_operation(inventory: Inventory, command: Command, target_kind: TargetKind, target_name: str) -> Operation:
    now = inventory.clock.now()
    return Operation(
        id=command.operation_id,
        revision=0,
        verb=command.subject,
        target_kind=target_kind,
        target_id=None,
        target_name=target_name,
        state=OperationState.RUNNING,
        phase=Phase.TURN,
        requested_by=command.requested_by,
        trace_id=current_trace_id(),
        trace_parent=inject({}).get("traceparent"),
        command=command.model_dump(mode="json", exclude={"operation_id", "requested_by"}),
        created_at=now,
        touched_at=now,
    )


async def queue(tx: Transaction, operation: Operation, behind: UUID) -> None:
    """Let an operation wait for its turn. Raises ConflictError when too many wait already."""
    if operation.target_id and await tx.operations.count_queued(operation.target_id) >= MAX_QUEUED:
        raise ConflictError(
            f"{MAX_QUEUED} operations wait already for {operation.target_name!r}. Wait for their end, or cancel some."
        )
    if operation.target_id and (last := await tx.operations.last_queued(operation.target_id)):
        # Their order is that of their coming, also when the clock was set back.
        operation.created_at = max(operation.created_at, last + timedelta(microseconds=1))
    operation.state = OperationState.QUEUED
    operation.phase = Phase.TURN
    operation.step = f"waits for operation {behind}"


def route(tx: Transaction, operation: Operation, command: RoutedCommand, step: str) -> None:
    """Send a routed command: the operation now waits for the executor's report."""
    operation.state = OperationState.RUNNING
    operation.phase = Phase.EXECUTION
    operation.step = step
    operation.context.routed_to = command.host_id
    operation.context.routed_verb = verb_of(command)
    tx.send(command, operation.target_id or command.host_id)


def verb_of(command: RoutedCommand) -> str:
    """What the executor's report of a routed command calls it, such as partition.start."""
    return command.subject.split(".{")[0]


def succeed_at_once(tx: Transaction, operation: Operation, result: dict[str, Any] | None = None) -> None:
    """End an operation that needed nobody else."""
    _end(operation, tx, OperationState.SUCCEEDED, None)
    operation.result = result or {}


def _end(operation: Operation, tx: Transaction, state: OperationState, error: Problem | None) -> None:
    operation.state = state
    operation.phase = Phase.DONE
    operation.error = error
    operation.step = ""
    operation.ended_at = tx.now
    if state is OperationState.SUCCEEDED:
        operation.progress = 100


async def end(
    tx: Transaction,
    operation: Operation,
    error: OpenQrmError | Problem | None,
    result: dict[str, Any] | None = None,
) -> None:
    """End a running operation, tell it, and save it. Its target is the caller's to settle."""
    problem = error.problem() if isinstance(error, OpenQrmError) else error
    if problem is None:
        _end(operation, tx, OperationState.SUCCEEDED, None)
        operation.result = result or {}
        tx.tell_operation(OperationSucceeded, operation)
    elif problem.code is ProblemCode.CANCELLED:
        _end(operation, tx, OperationState.CANCELLED, problem)
        tx.tell_operation(OperationCancelled, operation)
    else:
        _end(operation, tx, OperationState.FAILED, problem)
        tx.tell_operation(OperationFailed, operation)
    tx.operations.save(operation, tx.now)


async def give_back(inventory: Inventory, tx: Transaction, operation: Operation) -> None:
    """What is no longer needed at the end: capacity and addresses, by how it ended."""
    failed = operation.state is not OperationState.SUCCEEDED
    context = operation.context
    reservations = context.taken if failed else context.given_up
    for reservation in reservations:
        await tx.hosts.give_back(reservation)
    if reservations:
        inventory.retry_waiting_after(tx)
    for mac in sorted(context.macs_taken if failed else context.macs_given_up):
        await tx.macs.release(mac, inventory.settings.mac_quarantine_seconds)


async def progress(inventory: Inventory, operation_id: UUID, percent: int, step: str) -> None:
    """Note and tell how far an execution is."""
    async with inventory.transaction() as tx:
        operation = await tx.operations.lock(operation_id)
        if operation is None or operation.is_ended or percent <= operation.progress:
            return
        operation.progress = min(percent, 99)
        if not operation.cancel_requested:
            operation.step = step
        tx.tell_operation(OperationProgressed, operation)
        tx.operations.save(operation, tx.now)


# ------------------------------------------------------------------------------------------------ placement


Placed = Callable[[Transaction, UUID], Awaitable[bool]]
"""Reserve on the chosen host and go on; False when another placement was faster."""

Unplaced = Callable[[OpenQrmError], Awaitable[None]]
"""No host fits, and the operation does not wait: end it and settle its target."""


async def place(
    inventory: Inventory,
    operation_id: UUID,
    request: PlacementRequest,
    waits: bool,
    placed: Placed,
    unplaced: Unplaced,
) -> None:
    """Find a host for an operation that is in its placement phase, and go on with it.

    Safe to be called again at any time: every step looks at the phase first.
    """
    lost: set[UUID] = set()
    for attempt in range(1, PLACEMENT_TRIES + 1):
        proposal = await inventory.scheduler.propose(
            request.model_copy(update={"excluded_host_ids": request.excluded_host_ids | lost})
        )
        if proposal.host_id is None and not lost:
            await _no_host(inventory, operation_id, proposal, waits, unplaced)
            return
        if proposal.host_id is not None:
            async with inventory.transaction() as tx:
                if await placed(tx, proposal.host_id):
                    return
            # Somebody else took the capacity, and the scheduler has not seen it yet: look at the other hosts first.
            lost.add(proposal.host_id)
        else:
            # Only those that were lost fit. By now the scheduler may know why; ask with fresh data.
            lost.clear()
            await inventory.clock.sleep(PLACEMENT_PAUSE_SECONDS * attempt)
    raise ContendedError("Others were faster each time that a host was found.", retry_after=1.0)


async def in_placement(tx: Transaction, operation_id: UUID) -> Operation | None:
    """Lock an operation that needs a host; None when it was placed, cancelled or ended meanwhile."""
    operation = await tx.operations.lock(operation_id)
    if operation is None or operation.is_ended or operation.phase is not Phase.PLACEMENT:
        return None
    return operation


async def _no_host(
    inventory: Inventory, operation_id: UUID, proposal: PlacementProposal, waits: bool, unplaced: Unplaced
) -> None:
    error = no_fit(proposal)
    if not waits:
        await unplaced(error)
        return
    async with inventory.transaction() as tx:
        operation = await in_placement(tx, operation_id)
        if operation is None:
            return
        if operation.state is not OperationState.WAITING or operation.step != error.message:
            operation.state = OperationState.WAITING
            operation.step = error.message
            tx.tell_operation(OperationProgressed, operation)
            tx.operations.save(operation, tx.now)


def no_fit(proposal: PlacementProposal) -> NoFitError:
    """The error that tells why no host fits: counts per reason, and each reason."""
    if proposal.hosts_considered == 0:
        return NoFitError(
            "No host is known. Enrol one with `openqrm host enrol`.", details={"refused_by": {}, "hosts": []}
        )
    counts = ", ".join(f"{name}: {count}" for name, count in sorted(proposal.refused_by.items()))
    reasons = "; ".join(f"{r.host_name}: {r.reason.rstrip('.')}" for r in proposal.refusals[:3])
    return NoFitError(
        f"None of {proposal.hosts_considered} hosts fits ({counts}). For example {reasons}. "
        "Free capacity, add a host, or ask for less; with wait_for_capacity it waits for room.",
        details={
            "refused_by": proposal.refused_by,
            "hosts": [refusal.model_dump(mode="json") for refusal in proposal.refusals],
        },
    )


# ------------------------------------------------------------------------------------------------ cancelling


def check_cancellable(operation: Operation) -> None:
    """Raise WrongStateError, with the reason, when an operation cannot be cancelled now."""
    if operation.cancellable:
        return
    if operation.is_ended:
        why = f"has ended already ({operation.state})"
    elif operation.cancel_requested:
        why = "is being cancelled already"
    else:
        why = f"({operation.verb}) cannot be cancelled while it is carried out"
    raise WrongStateError(f"The operation {operation.id} {why}.", details={"state": operation.state.value})


async def cancel_execution(tx: Transaction, operation: Operation) -> None:
    """Ask the executor that has an operation to end it."""
    operation.cancel_requested = True
    operation.step = "is being cancelled"
    host = await tx.hosts.get(operation.context.routed_to) if operation.context.routed_to else None
    if host is None:
        raise TemporaryError(f"The operation {operation.id} is between two steps.", retry_after=0.5)
    tx.send(
        ExecuteCancelOperation(
            operation_id=operation.id,
            host_id=host.id,
            technology=host.technology,
            partition_id=operation.target_id,
        ),
        operation.id,
    )
    tx.tell_operation(OperationProgressed, operation)
    tx.operations.save(operation, tx.now)
