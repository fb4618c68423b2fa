"""How an operation on a partition begins, is carried out and ends."""

from functools import partial
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from openqrm.contracts.errors import (
    OpenQrmError,
    PermanentError,
    Problem,
    ProblemCode,
    TemporaryError,
    WrongStateError,
)
from openqrm.contracts.execution import (
    ExecuteDeletePartition,
    ExecutionFailed,
    ExecutionSucceeded,
    RunsOn,
)
from openqrm.contracts.message import message_for
from openqrm.contracts.operation import OperationProgressed, TargetKind
from openqrm.contracts.partition import (
    AdoptPartition,
    ChangePartition,
    CreatePartition,
    DeletePartition,
    DiskAttached,
    DiskDefinition,
    DiskDetached,
    MigratePartition,
    NicAttached,
    NicDetached,
    NicMapped,
    PartitionChanged,
    PartitionCommand,
    PartitionCreated,
    PartitionDeleted,
    PartitionEvent,
    PartitionMigrated,
    PartitionPaused,
    PartitionPinned,
    PartitionRebooted,
    PartitionResized,
    PartitionStarted,
    PartitionStopped,
    PartitionUnpaused,
    PartitionVanished,
)
from openqrm.contracts.states import (
    DesiredState,
    ObservedState,
    OperationState,
    PartitionState,
)
from openqrm.inventory import engine
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.domain.partition import Nic, Partition
from openqrm.inventory.domain.partition_states import transition_for
from openqrm.inventory.flows import evacuation
from openqrm.inventory.flows.reconciling import SEEN, after_operation, arrive, note_drift
from openqrm.inventory.handlers.partition import PLANS, Turn
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction

DONE_EVENTS: dict[str, type[PartitionEvent]] = {
    "partition.start": PartitionStarted,
    "partition.stop": PartitionStopped,
    "partition.shutdown": PartitionStopped,
    "partition.reboot": PartitionRebooted,
    "partition.pause": PartitionPaused,
    "partition.unpause": PartitionUnpaused,
    "partition.resize": PartitionResized,
    "partition.pin": PartitionPinned,
    "partition.migrate": PartitionMigrated,
    "partition.delete": PartitionDeleted,
    "partition.attach_nic": NicAttached,
    "partition.detach_nic": NicDetached,
    "partition.map_nic": NicMapped,
    "partition.attach_disk": DiskAttached,
    "partition.detach_disk": DiskDetached,
    "partition.change": PartitionChanged,
    "partition.adopt": PartitionChanged,
}

_CREATION_ENDED: dict[PartitionState, type[PartitionEvent]] = {
    PartitionState.DELETED: PartitionDeleted,
    PartitionState.UNKNOWN: PartitionChanged,
}
"""What a failed creation is told by, where it did not leave the partition behind."""

_ENDS_IT = frozenset({"partition.stop", "partition.shutdown", "partition.delete"})
"""Verbs after which a stopped partition is no crash, even if they failed."""

_REFUSED = frozenset({ProblemCode.STALE_EPOCH, ProblemCode.UNSUPPORTED, ProblemCode.INVALID})
"""Errors that come before anything was done."""

_DISKS = TypeAdapter(list[DiskDefinition])
_NICS = TypeAdapter(list[Nic])


def _verb(operation: Operation) -> str:
    return operation.verb.split(".")[1]


def command_of(operation: Operation) -> Any:
    """The command that an operation came from."""
    model = message_for(operation.verb)
    if model is None:
        raise PermanentError(f"The operation {operation.id} has the verb {operation.verb}, which no longer exists.")
    return model.model_validate(
        {**operation.command, "operation_id": operation.id, "requested_by": operation.requested_by}
    )


# ------------------------------------------------------------------------------------------------ accept and begin


async def submit(inventory: Inventory, command: PartitionCommand) -> None:
    """Take a command on an existing partition: begin it, or queue it behind the one that is at work."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        operation.parent_id = evacuation.parent_of(command.requested_by)
        partition = await tx.partitions.lock_ref(command.partition)
        operation.target_id, operation.target_name = partition.id, partition.name
        if command.expected_revision is not None and command.expected_revision != partition.revision:
            raise PermanentError(
                f"The partition {partition.name!r} has changed: it is at revision {partition.revision}, not "
                f"{command.expected_revision}. Look at it again and repeat the request.",
                code=ProblemCode.PRECONDITION,
                details={"revision": partition.revision},
            )
        if partition.operation_id is not None:
            await engine.queue(tx, operation, behind=partition.operation_id)
        else:
            await _begin(inventory, tx, operation, partition, command)

    async def on_rejected(tx: Transaction, operation: Operation) -> None:
        evacuation.look_after(inventory, tx, operation)

    await engine.submit(inventory, command, TargetKind.PARTITION, command.partition, use_case, on_rejected)


async def _begin(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, command: PartitionCommand
) -> None:
    forced = isinstance(command, DeletePartition) and command.force
    transition = transition_for(_verb(operation), partition.state, partition.name, forced)
    if partition.target_host_id is not None and not isinstance(command, ChangePartition):
        target = await tx.hosts.get(partition.target_host_id)
        raise WrongStateError(
            f"The migration of {partition.name!r} broke off, and it is not known yet whether {partition.host_name} or "
            f"{target.name if target else partition.target_host_id} has it. Both hosts must answer first. If one of "
            "them is gone for good, remove that host by force.",
            details={"state": partition.state.value, "allowed": ["change"]},
        )
    operation.context.state_before = partition.state.value
    networks = await tx.networks_of(partition)
    routed = await PLANS[type(command)](Turn(tx, operation, partition, networks), command)
    if transition.during is not None:
        partition.state = transition.during
    if routed is not None:
        partition.operation_id = operation.id
        host = partition.host_name or str(partition.host_id)
        engine.route(tx, operation, routed, f"on host {host}")
        await tx.tell_partition(PartitionChanged, partition, operation.id, _verb(operation))
    elif isinstance(command, MigratePartition):
        partition.operation_id = operation.id
        operation.state, operation.phase = OperationState.RUNNING, Phase.PLACEMENT
        operation.step = "looks for a host"
        await tx.tell_partition(PartitionChanged, partition, operation.id, "migrate")
        inventory.place_after(tx, operation.id)
    else:
        if transition.after is not None:
            partition.state = transition.after
            partition.desired_state = transition.desired or partition.desired_state
        await tx.tell_partition(DONE_EVENTS[operation.verb], partition, operation.id)
        engine.succeed_at_once(tx, operation)
        await engine.give_back(inventory, tx, operation)
    tx.partitions.save(partition, tx.now)


def next_after(inventory: Inventory, tx: Transaction, partition: Partition) -> None:
    """Once this transaction is committed, begin what is queued on the partition."""
    if partition.has_queue:
        tx.after_commit.append(partial(begin_next, inventory, partition.id))


async def begin_next(inventory: Inventory, partition_id: UUID) -> None:
    """Begin what is queued on a partition, if nothing is at work on it. Harmless when repeated."""
    while True:
        chosen: UUID | None = None
        try:
            async with inventory.transaction() as tx:
                partition = await tx.partitions.lock(partition_id)
                if partition is None or partition.operation_id is not None:
                    return
                operation = await tx.operations.lock_next(partition_id)
                if operation is None:
                    return
                chosen = operation.id
                with inventory.tracing.span("begin queued operation", carrier=operation.carrier):
                    await _begin(inventory, tx, operation, partition, command_of(operation))
                    if operation.is_ended:
                        await engine.end(tx, operation, None, operation.result)
                        evacuation.look_after(inventory, tx, operation)
                    else:
                        tx.tell_operation(OperationProgressed, operation)
                        tx.operations.save(operation, tx.now)
        except TemporaryError:
            raise
        except Exception as error:
            if chosen is None:
                raise
            await give_up(inventory, chosen, as_permanent(inventory, error))


def as_permanent(inventory: Inventory, error: Exception) -> OpenQrmError:
    """The error with which an operation ends that nobody would repeat: an unexpected one is logged and named."""
    if isinstance(error, OpenQrmError):
        return error
    inventory.log.error("an operation failed unexpectedly", exc_info=error)
    return PermanentError(
        f"An unexpected {type(error).__name__} occurred; inventory's log has the details. Ask for it again once the "
        "cause is mended.",
        code=ProblemCode.INTERNAL,
    )


# ------------------------------------------------------------------------------------------------ not carried out


async def give_up(inventory: Inventory, operation_id: UUID, error: OpenQrmError) -> None:
    """End an operation that was not carried out. Nothing happens if by now it was, or has ended."""
    async with inventory.transaction() as tx:
        known = await tx.operations.target_of(operation_id)
        partition = await tx.partitions.lock(known[1]) if known and known[1] else None
        operation = await tx.operations.lock(operation_id)
        if operation is not None and operation.phase in (Phase.TURN, Phase.PLACEMENT):
            await call_off(inventory, tx, operation, partition, error)


async def call_off(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition | None, error: OpenQrmError
) -> None:
    """End a locked operation that is queued or in placement; put its partition back to what it was."""
    await engine.end(tx, operation, error)
    if partition is not None and partition.operation_id == operation.id:
        partition.operation_id = None
        if operation.verb == CreatePartition.subject:
            await engine.give_back(inventory, tx, operation)
            partition.state, partition.desired_state = PartitionState.DELETED, DesiredState.DELETED
            await tx.tell_partition(PartitionDeleted, partition, operation.id, "it could not be created")
        else:
            partition.state = PartitionState(operation.context.state_before or PartitionState.UNKNOWN)
            await tx.tell_partition(PartitionChanged, partition, operation.id, "it was not moved")
            await after_operation(inventory, tx, partition, None, operation.created_at)
        tx.partitions.save(partition, tx.now)
        next_after(inventory, tx, partition)
    evacuation.look_after(inventory, tx, operation)


# ------------------------------------------------------------------------------------------------ outcome


async def succeeded(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, outcome: ExecutionSucceeded
) -> None:
    """The executor did it."""
    if operation.context.changes.pop("then_delete", False):
        # The first half of a forced delete: it is stopped now, and can be removed.
        operation.context.state_before = PartitionState.STOPPED.value
        routed = ExecuteDeletePartition(
            operation_id=operation.id,
            host_id=outcome.host_id,
            technology=outcome.technology,
            partition=partition.definition(await tx.networks_of(partition)),
        )
        engine.route(tx, operation, routed, "is being removed")
        tx.tell_operation(OperationProgressed, operation)
        tx.operations.save(operation, tx.now)
        return
    _apply(partition, operation.context.changes)
    before = PartitionState(operation.context.state_before or PartitionState.STOPPED)
    if operation.verb == CreatePartition.subject:
        started = bool(operation.command.get("start"))
        partition.state = PartitionState.RUNNING if started else PartitionState.STOPPED
        partition.desired_state = DesiredState.RUNNING if started else DesiredState.STOPPED
    elif operation.verb == AdoptPartition.subject:
        partition.state = before
    else:
        transition = transition_for(_verb(operation), before, partition.name, bool(operation.command.get("force")))
        partition.state = transition.after or before
        partition.desired_state = transition.desired or partition.desired_state
    if operation.verb == MigratePartition.subject and partition.target_host_id is not None:
        await arrive(tx, partition)
    if operation.verb == DeletePartition.subject:
        partition.host_id = partition.host_name = None
        partition.drift = ()
    elif outcome.observed is not None:
        await note_drift(tx, partition, outcome.observed)
    ended_at = outcome.ended_at
    partition.operation_id = None
    partition.seen_at = ended_at
    await engine.end(tx, operation, None, outcome.result)
    await engine.give_back(inventory, tx, operation)
    if operation.verb == CreatePartition.subject:
        await tx.tell_partition(PartitionCreated, partition, operation.id)
        if partition.state is PartitionState.RUNNING:
            await tx.tell_partition(PartitionStarted, partition, operation.id)
    else:
        await tx.tell_partition(DONE_EVENTS[operation.verb], partition, operation.id)
    await after_operation(inventory, tx, partition, outcome.observed, ended_at)
    tx.partitions.save(partition, tx.now)
    evacuation.look_after(inventory, tx, operation)
    next_after(inventory, tx, partition)


def _apply(partition: Partition, changes: dict[str, Any]) -> None:
    for field, value in changes.items():
        if field == "nics":
            partition.nics = _NICS.validate_python(value)
        elif field == "disks":
            partition.disks = _DISKS.validate_python(value)
        elif field == "cpu_pins":
            partition.cpu_pins = {int(vcpu): tuple(cpus) for vcpu, cpus in value.items()}
        else:
            setattr(partition, field, value)


async def failed(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, outcome: ExecutionFailed
) -> None:
    """The executor could not; what stands on the host decides what the partition is now."""
    await engine.end(tx, operation, _cancelled_or(operation, outcome.error))
    ended_at = outcome.ended_at
    partition.operation_id = None
    partition.seen_at = ended_at
    event: type[PartitionEvent] = PartitionChanged
    keeps_reservation = False
    if operation.verb == MigratePartition.subject:
        keeps_reservation = await _after_failed_migration(inventory, tx, operation, partition, outcome)
        if partition.state is PartitionState.MISSING:
            event = PartitionVanished
    elif operation.verb == CreatePartition.subject:
        keeps_reservation = await _after_failed_creation(tx, operation, partition, outcome)
        event = _CREATION_ENDED.get(partition.state, PartitionCreated)
    else:
        event = _after_failure(operation, partition, outcome)
    if not keeps_reservation:
        await engine.give_back(inventory, tx, operation)
    await tx.tell_partition(event, partition, operation.id, outcome.error.message)
    await after_operation(inventory, tx, partition, outcome.observed, ended_at)
    tx.partitions.save(partition, tx.now)
    evacuation.look_after(inventory, tx, operation)
    next_after(inventory, tx, partition)


def _cancelled_or(operation: Operation, error: Problem) -> Problem:
    # A driver may report the abort that we asked for as a failure of its own kind.
    if operation.cancel_requested and error.code in (ProblemCode.CANCELLED, ProblemCode.DRIVER_FAILED):
        return error.model_copy(update={"code": ProblemCode.CANCELLED})
    return error


def _is_unreadable(outcome: ExecutionFailed) -> bool:
    """Whether the executor could not see what stands on the host, rather than seeing that nothing does."""
    return outcome.error.details.get("observed") == "unreadable"


def _after_failure(operation: Operation, partition: Partition, outcome: ExecutionFailed) -> type[PartitionEvent]:
    """Set the state to what it was, unless what was seen says otherwise; the reconciler judges the rest."""
    before = PartitionState(operation.context.state_before or PartitionState.UNKNOWN)
    partition.state = before
    if outcome.observed is None:
        if _is_unreadable(outcome):
            partition.state = PartitionState.UNKNOWN
        elif before is not PartitionState.MISSING:
            partition.state = PartitionState.MISSING
            return PartitionVanished
    elif operation.verb in _ENDS_IT and outcome.observed.state is ObservedState.STOPPED:
        # It stopped, as was asked, whatever went wrong afterwards: that is no crash.
        partition.state, partition.desired_state = PartitionState.STOPPED, DesiredState.STOPPED
        return PartitionStopped
    return PartitionChanged


async def _after_failed_creation(
    tx: Transaction, operation: Operation, partition: Partition, outcome: ExecutionFailed
) -> bool:
    """Keep what came to be; undo what did not. True when the partition stays, with its reservation."""
    observed = outcome.observed
    if observed is not None and observed.state in SEEN:
        partition.state = SEEN[observed.state]
        running = observed.state is ObservedState.RUNNING
        partition.desired_state = DesiredState.RUNNING if running else DesiredState.STOPPED
        return True
    if _is_unreadable(outcome):
        # It may be there, and may run: it keeps its addresses and its reservation until its host shows what came of it.
        partition.state, partition.desired_state = PartitionState.UNKNOWN, DesiredState.STOPPED
        return True
    undo = ExecuteDeletePartition(
        operation_id=operation.id,
        host_id=outcome.host_id,
        technology=outcome.technology,
        partition=partition.definition(await tx.networks_of(partition)),
    )
    tx.send(undo, partition.id)
    partition.state, partition.desired_state = PartitionState.DELETED, DesiredState.DELETED
    partition.host_id = partition.host_name = None
    return False


async def _after_failed_migration(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, outcome: ExecutionFailed
) -> bool:
    """Settle where it is; True when what it holds on the target must stay: it is there, or nobody knows."""
    before = PartitionState(operation.context.state_before or PartitionState.STOPPED)
    match _side(outcome, before):
        case RunsOn.UNKNOWN:
            partition.state = PartitionState.UNKNOWN
            return True
        case RunsOn.TARGET:
            await arrive(tx, partition)
            for reservation in operation.context.given_up:
                await tx.hosts.give_back(reservation)
            inventory.retry_waiting_after(tx)
            partition.state = before
            return True
        case RunsOn.NEITHER:
            partition.target_host_id = None
            partition.state = PartitionState.MISSING
        case RunsOn.SOURCE:
            partition.target_host_id = None
            partition.state = before
    return False


def _side(outcome: ExecutionFailed, before: PartitionState) -> RunsOn:
    """Which side has it. What the executor cannot tell may still be plain from what the source shows."""
    if outcome.runs_on not in (None, RunsOn.UNKNOWN):
        return RunsOn(outcome.runs_on)
    if outcome.error.code in _REFUSED:
        return RunsOn.SOURCE
    state = outcome.observed.state if outcome.observed else None
    if state is ObservedState.RUNNING:
        return RunsOn.SOURCE  # a partition that runs there has not left
    if state is ObservedState.STOPPED and before in (PartitionState.STOPPED, PartitionState.CRASHED):
        return RunsOn.SOURCE  # it did not run before, and nothing of a move makes it run
    return RunsOn.UNKNOWN
