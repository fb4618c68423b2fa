"""How an operation on a partition begins, is carried out and ends."""

from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from openqrm.contracts.errors import OpenQrmError, PermanentError, Problem, ProblemCode
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
    PartitionCrashed,
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

SEEN: dict[ObservedState, PartitionState] = {
    ObservedState.RUNNING: PartitionState.RUNNING,
    ObservedState.PAUSED: PartitionState.PAUSED,
    ObservedState.STOPPED: PartitionState.STOPPED,
    ObservedState.CRASHED: PartitionState.CRASHED,
}
"""What an observed state means for a partition that no operation is at work on."""

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
            engine.queue(operation, behind=partition.operation_id)
        else:
            await _begin(inventory, tx, operation, partition, command)

    await engine.submit(inventory, command, TargetKind.PARTITION, command.partition, use_case, evacuation.child_ended)


async def _begin(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, command: PartitionCommand
) -> None:
    forced = isinstance(command, DeletePartition) and command.force
    transition = transition_for(_verb(operation), partition.state, partition.name, forced)
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
        await tx.tell_partition(DONE_EVENTS[operation.verb], partition, operation.id)
        engine.succeed_at_once(tx, operation)
        await engine.give_back(inventory, tx, operation)
    await tx.partitions.save(partition, tx.now)


async def begin_next(inventory: Inventory, partition_id: UUID) -> None:
    """Begin what is queued on a partition, if nothing is at work on it."""
    while True:
        refused: tuple[UUID, PermanentError] | None = None
        try:
            async with inventory.transaction() as tx:
                partition = await tx.partitions.lock(partition_id)
                if partition is None or partition.operation_id is not None:
                    return
                operation = await tx.operations.lock_next(partition_id)
                if operation is None:
                    return
                refused_id = operation.id
                with inventory.tracing.span("begin queued operation", carrier=carrier(operation)):
                    await _begin(inventory, tx, operation, partition, command_of(operation))
                    if operation.is_ended:
                        await engine.end(tx, operation, None, operation.result)
                    else:
                        tx.tell_operation(OperationProgressed, operation)
                        await tx.operations.save(operation, tx.now)
        except PermanentError as error:
            refused = (refused_id, error)
        if refused:
            async with inventory.transaction() as tx:
                operation = await tx.operations.lock(refused[0])
                if operation and operation.state is OperationState.QUEUED:
                    await engine.end(tx, operation, refused[1])
                    await evacuation.child_ended(tx, operation)


def carrier(operation: Operation) -> dict[str, str]:
    return {"traceparent": operation.trace_parent} if operation.trace_parent else {}


# ------------------------------------------------------------------------------------------------ outcome


async def not_placed(inventory: Inventory, tx: Transaction, operation: Operation, error: OpenQrmError) -> None:
    """End an operation that was not carried out, and put its partition back to what it was."""
    partition = await tx.partitions.lock(operation.target_id) if operation.target_id else None
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
        await tx.partitions.save(partition, tx.now)
        tx.after_commit.append(lambda: begin_next(inventory, partition.id))
    await evacuation.child_ended(tx, operation)


async def succeeded(
    inventory: Inventory, tx: Transaction, operation: Operation, partition: Partition, outcome: ExecutionSucceeded
) -> None:
    """The executor did it."""
    if operation.context.changes.pop("then_delete", False):
        # The first half of a forced delete: it is stopped now, and can be removed.
        routed = ExecuteDeletePartition(
            operation_id=operation.id,
            host_id=outcome.host_id,
            technology=outcome.technology,
            partition=partition.definition(await tx.networks_of(partition)),
        )
        engine.route(tx, operation, routed, "is being removed")
        await tx.operations.save(operation, tx.now)
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
        forced = bool(operation.command.get("force"))
        transition = transition_for(_verb(operation), before, partition.name, forced)
        partition.state = transition.after or before
        partition.desired_state = transition.desired or partition.desired_state
    if operation.verb == MigratePartition.subject and partition.target_host_id is not None:
        await _arrived(tx, partition)
    if operation.verb == DeletePartition.subject:
        partition.host_id = partition.host_name = None
    partition.operation_id = None
    partition.seen_at = outcome.ended_at
    await engine.end(tx, operation, None, outcome.result)
    await engine.give_back(inventory, tx, operation)
    if operation.verb == CreatePartition.subject:
        await tx.tell_partition(PartitionCreated, partition, operation.id)
        if partition.state is PartitionState.RUNNING:
            await tx.tell_partition(PartitionStarted, partition, operation.id)
    else:
        await tx.tell_partition(DONE_EVENTS[operation.verb], partition, operation.id)
    await tx.partitions.save(partition, tx.now)
    await evacuation.child_ended(tx, operation)
    tx.after_commit.append(lambda: begin_next(inventory, partition.id))


async def _arrived(tx: Transaction, partition: Partition) -> None:
    target = await tx.hosts.get(partition.target_host_id) if partition.target_host_id else None
    partition.host_id = partition.target_host_id
    partition.host_name = target.name if target else None
    partition.target_host_id = None


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
    partition.operation_id = None
    partition.seen_at = outcome.ended_at
    before = PartitionState(operation.context.state_before or PartitionState.STOPPED)
    event: type[PartitionEvent] = PartitionChanged
    keeps_reservation = False
    if operation.verb == MigratePartition.subject:
        keeps_reservation = await _after_failed_migration(tx, operation, partition, outcome, before)
    elif operation.verb == CreatePartition.subject:
        keeps_reservation = await _after_failed_creation(tx, operation, partition, outcome)
        event = PartitionDeleted if partition.state is PartitionState.DELETED else PartitionCreated
    else:
        partition.state = _state_after_failure(outcome, before)
    if partition.state is PartitionState.CRASHED and before is not PartitionState.CRASHED:
        event = PartitionCrashed
    if not keeps_reservation:
        await engine.give_back(inventory, tx, operation)
    await tx.tell_partition(event, partition, operation.id, outcome.error.message)
    await tx.partitions.save(partition, tx.now)
    await evacuation.child_ended(tx, operation)
    tx.after_commit.append(lambda: begin_next(inventory, partition.id))


def _cancelled_or(operation: Operation, error: Problem) -> Problem:
    # A driver may report the abort that we asked for as a failure of its own kind.
    if operation.cancel_requested and error.code in (ProblemCode.CANCELLED, ProblemCode.DRIVER_FAILED):
        return error.model_copy(update={"code": ProblemCode.CANCELLED})
    return error


def _state_after_failure(outcome: ExecutionFailed, before: PartitionState) -> PartitionState:
    if outcome.observed is not None and outcome.observed.state in SEEN:
        return SEEN[outcome.observed.state]
    if outcome.error.code in (ProblemCode.HOST_FAILED, ProblemCode.TIMED_OUT):
        return PartitionState.UNKNOWN
    return before


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
    undo = ExecuteDeletePartition(
        operation_id=operation.id,
        host_id=outcome.host_id,
        technology=outcome.technology,
        partition=partition.definition(await tx.networks_of(partition)),
    )
    tx.send(undo, partition.id)
    partition.state, partition.desired_state = PartitionState.DELETED, DesiredState.DELETED
    return False


async def _after_failed_migration(
    tx: Transaction,
    operation: Operation,
    partition: Partition,
    outcome: ExecutionFailed,
    before: PartitionState,
) -> bool:
    """Settle where it is; True when the reservations on both sides must stay, since that is not known."""
    runs_on = outcome.runs_on or (RunsOn.SOURCE if outcome.observed is not None else RunsOn.UNKNOWN)
    if outcome.error.code in (ProblemCode.STALE_EPOCH, ProblemCode.UNSUPPORTED, ProblemCode.INVALID):
        runs_on = outcome.runs_on or RunsOn.SOURCE  # refused before anything was moved
    if runs_on is RunsOn.UNKNOWN:
        partition.state = PartitionState.UNKNOWN
        return True
    if runs_on is RunsOn.TARGET:
        await _arrived(tx, partition)
        for reservation in operation.context.given_up:
            await tx.hosts.give_back(reservation)
        partition.state = before
        return True
    partition.target_host_id = None
    if runs_on is RunsOn.NEITHER and before in (PartitionState.RUNNING, PartitionState.PAUSED):
        partition.state = PartitionState.CRASHED
    else:
        partition.state = (
            SEEN[outcome.observed.state] if outcome.observed and outcome.observed.state in SEEN else before
        )
    return False
