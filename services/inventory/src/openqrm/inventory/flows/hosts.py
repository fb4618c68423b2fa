"""How an operation on a host begins, is carried out and ends."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from openqrm.contracts.errors import (
    ConflictError,
    DuplicateError,
    FieldProblem,
    InvalidError,
    PermanentError,
    Problem,
    ProblemCode,
)
from openqrm.contracts.execution import (
    ExecuteEnrolHost,
    ExecutePrepareHost,
    ExecutionFailed,
    ExecutionSucceeded,
    HostExecution,
)
from openqrm.contracts.host import (
    ActivateHost,
    ChangeHost,
    EnrolHost,
    HostActivated,
    HostChanged,
    HostCommand,
    HostConnection,
    HostEnrolled,
    HostMaintained,
    HostPrepared,
    HostRemoved,
    MaintainHost,
    PrepareHost,
    RemoveHost,
)
from openqrm.contracts.operation import OperationProgressed, TargetKind
from openqrm.contracts.partition import CreatePartition, PartitionChanged, PartitionDeleted
from openqrm.contracts.states import DesiredState, HostState, PartitionState
from openqrm.inventory import engine
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.host_states import transition_for
from openqrm.inventory.domain.operation import Operation, Reservation
from openqrm.inventory.domain.partition import Partition
from openqrm.inventory.flows import evacuation, partitions, strangers
from openqrm.inventory.flows.reconciling import held_on
from openqrm.inventory.handlers.resolving import manifest_of
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def enrol_host(inventory: Inventory, command: EnrolHost) -> None:
    """Record the host and let its executor reach it."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        operation.target_id = command.host_id
        await _check_connection(tx, command.technology, command.connection)
        now = inventory.clock.now()
        host = Host(
            id=command.host_id,
            revision=0,
            name=command.name,
            technology=command.technology,
            state=HostState.ENROLLING,
            state_reason="",
            usual_state=HostState.ENROLLED,
            connection=command.connection,
            tags=command.tags,
            cpu_overcommit=command.cpu_overcommit,
            memory_overcommit=command.memory_overcommit,
            memory_reserve_mib=command.memory_reserve_mib,
            facts=None,
            cpus_reserved=0,
            memory_reserved_mib=0,
            partitions=0,
            operation_id=operation.id,
            last_seen_at=None,
            created_at=now,
            updated_at=now,
        )
        await tx.hosts.add(host)
        _route(tx, operation, host, ExecuteEnrolHost, "is being reached")
        tx.tell_host(HostChanged, host, operation.id, "enrol")
        await tx.hosts.save(host, tx.now)

    await engine.submit(inventory, command, TargetKind.HOST, command.name, use_case)


async def _check_connection(tx: Transaction, technology: str, connection: HostConnection) -> None:
    manifest = await manifest_of(tx, technology)
    scheme = connection.uri.split("://")[0]
    if manifest and scheme not in manifest.uri_schemes:
        raise InvalidError(
            f"{manifest.title} hosts are not reached by {scheme}://. Use one of {', '.join(manifest.uri_schemes)}.",
            fields=(FieldProblem(field="connection.uri", message=f"unknown scheme {scheme}"),),
            details={"schemes": list(manifest.uri_schemes)},
        )
    if other := await tx.hosts.has_uri(technology, connection.uri):
        raise DuplicateError(
            f"{connection.uri} is the address of the host {other!r} already. As two hosts, its capacity would count "
            "twice. Change or remove that one.",
            details={"host": other},
        )


async def submit(inventory: Inventory, command: HostCommand) -> None:
    """Take a command on an existing host. One that is busy refuses: host commands are few and a person waits."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        host = await tx.hosts.lock_ref(command.host)
        operation.target_id, operation.target_name = host.id, host.name
        if command.expected_revision is not None and command.expected_revision != host.revision:
            raise PermanentError(
                f"The host {host.name!r} has changed: it is at revision {host.revision}, not "
                f"{command.expected_revision}. Look at it again and repeat the request.",
                code=ProblemCode.PRECONDITION,
                details={"revision": host.revision},
            )
        if host.operation_id is not None and not (isinstance(command, RemoveHost) and command.force):
            raise ConflictError(
                f"The host {host.name!r} is busy with operation {host.operation_id}. Wait for its end, or cancel it.",
                details={"operation_id": str(host.operation_id)},
            )
        verb = command.subject.split(".")[1]
        if not (isinstance(command, RemoveHost) and command.force):
            transition_for(verb, host.state, host.name)
        operation.context.state_before = host.state.value
        await _PLANS[type(command)](inventory, tx, operation, host, command)
        await tx.hosts.save(host, tx.now)

    await engine.submit(inventory, command, TargetKind.HOST, command.host, use_case)


def _route(tx: Transaction, operation: Operation, host: Host, model: type[HostExecution], step: str) -> None:
    routed = model(
        operation_id=operation.id,
        host_id=host.id,
        technology=host.technology,
        host_name=host.name,
        connection=host.connection,
    )
    engine.route(tx, operation, routed, step)


async def prepare_host(
    _inventory: Inventory, tx: Transaction, operation: Operation, host: Host, _command: PrepareHost
) -> None:
    """Let its executor install and configure the hypervisor."""
    host.state, host.operation_id = HostState.PREPARING, operation.id
    _route(tx, operation, host, ExecutePrepareHost, "is being prepared")
    tx.tell_host(HostChanged, host, operation.id, "prepare")


async def maintain_host(
    _inventory: Inventory, tx: Transaction, operation: Operation, host: Host, command: MaintainHost
) -> None:
    """Take no more partitions; move those away that are there, if asked."""
    if host.state is HostState.UNREACHABLE:
        if command.evacuate:
            raise ConflictError(
                f"The host {host.name!r} does not answer ({host.state_reason}), so nothing can be moved away from it. "
                "Bring it back first, or maintain it without evacuation."
            )
        _remember(tx, operation, host, HostState.MAINTENANCE)
        return
    if command.evacuate and await evacuation.begin(tx, operation, host):
        host.operation_id = operation.id
        host.state, host.usual_state, host.state_reason = HostState.DRAINING, HostState.MAINTENANCE, "for maintenance"
        tx.tell_host(HostChanged, host, operation.id, "maintain")
        return
    host.settle(HostState.MAINTENANCE, "for maintenance")
    tx.tell_host(HostMaintained, host, operation.id)
    engine.succeed_at_once(tx, operation)


def _remember(tx: Transaction, operation: Operation, host: Host, state: HostState) -> None:
    host.usual_state = state
    tx.tell_host(HostChanged, host, operation.id, f"will be {state} when it answers again")
    engine.succeed_at_once(tx, operation)


async def activate_host(
    inventory: Inventory, tx: Transaction, operation: Operation, host: Host, _command: ActivateHost
) -> None:
    """Take partitions again; a host that was never reached is reached first."""
    if host.state is HostState.UNREACHABLE:
        _remember(tx, operation, host, HostState.READY)
        return
    if host.facts is None or host.state is HostState.ENROLLED:
        host.state, host.operation_id = HostState.ENROLLING, operation.id
        _route(tx, operation, host, ExecuteEnrolHost, "is being reached")
        tx.tell_host(HostChanged, host, operation.id, "activate")
        return
    host.settle(HostState.READY)
    tx.tell_host(HostActivated, host, operation.id)
    engine.succeed_at_once(tx, operation)
    inventory.retry_waiting_after(tx)


async def change_host(
    inventory: Inventory, tx: Transaction, operation: Operation, host: Host, command: ChangeHost
) -> None:
    """Change what needs no work on the host itself; a new connection is used from now on."""
    if command.connection and command.connection.uri != host.connection.uri:
        await _check_connection(tx, host.technology, command.connection)
    for field in ("name", "tags", "connection", "cpu_overcommit", "memory_overcommit", "memory_reserve_mib"):
        value = getattr(command, field)
        if value is not None:
            setattr(host, field, value)
    tx.tell_host(HostChanged, host, operation.id, "change")
    engine.succeed_at_once(tx, operation)
    inventory.retry_waiting_after(tx)


async def remove_host(
    inventory: Inventory, tx: Transaction, operation: Operation, host: Host, command: RemoveHost
) -> None:
    """Forget it, if it is empty; by force, with everything that inventory knows to be on it."""
    here = {partition.id for partition in await tx.partitions.on_host(host.id)}
    coming = await tx.partitions.ids_moving_to(host.id)
    if (here or coming) and not command.force:
        raise ConflictError(
            f"The host {host.name!r} carries {len(here)} partitions, and {len(coming)} are being moved to it. Move or "
            "delete them first, or use force to forget those that it carries.",
            details={"partitions": len(here), "coming": len(coming)},
        )
    affected = [await tx.partitions.lock(partition_id) for partition_id in sorted({*here, *coming})]
    freed: list[Reservation] = []
    macs: list[str] = []
    why = Problem(code=ProblemCode.HOST_FAILED, message=f"The host {host.name!r} was removed by force.")
    for partition in affected:
        if partition is None:
            continue
        working = await tx.operations.lock(partition.operation_id) if partition.operation_id else None
        if working is not None:
            await engine.end(tx, working, why)
            evacuation.look_after(inventory, tx, working)
            freed += working.context.taken
            macs += working.context.macs_taken
        elif partition.target_host_id is not None:
            freed.append(held_on(partition, partition.target_host_id))
        if partition.id in here:
            if working is None or working.verb != CreatePartition.subject:
                freed.append(held_on(partition, host.id))
            macs += [nic.mac for nic in partition.nics]
        await _forget(inventory, tx, operation, host, partition)
    if host.operation_id and (working := await tx.operations.lock(host.operation_id)):
        await engine.end(tx, working, why)
    for reservation in sorted(freed, key=lambda reservation: reservation.host_id):
        await tx.hosts.give_back(reservation)
    for mac in sorted(set(macs)):
        await tx.macs.release(mac, inventory.settings.mac_quarantine_seconds)
    host.operation_id = None
    host.settle(HostState.REMOVED)
    tx.tell_host(HostRemoved, host, operation.id)
    await strangers.keep_only(tx, host.id, set())
    await strangers.respect_addresses(inventory, tx, host)
    engine.succeed_at_once(tx, operation)
    inventory.retry_waiting_after(tx)
    tx.after_commit.append(partial(inventory.purge, host.technology, host.id))


async def _forget(
    inventory: Inventory, tx: Transaction, operation: Operation, host: Host, partition: Partition
) -> None:
    """A partition that was on the removed host is gone; one that was moving there is where it came from, perhaps."""
    partition.operation_id = partition.target_host_id = None
    partition.sightings = {}
    if partition.host_id == host.id:
        partition.state, partition.desired_state = PartitionState.DELETED, DesiredState.DELETED
        partition.host_id = partition.host_name = None
        await tx.tell_partition(PartitionDeleted, partition, operation.id, f"forgotten with its host {host.name}")
    else:
        partition.state = PartitionState.UNKNOWN
        await tx.tell_partition(PartitionChanged, partition, operation.id, f"was on its way to {host.name}")
    tx.partitions.save(partition, tx.now)
    partitions.next_after(inventory, tx, partition)


_PLANS: dict[type[HostCommand], Callable[[Inventory, Transaction, Operation, Host, Any], Awaitable[None]]] = {
    PrepareHost: prepare_host,
    MaintainHost: maintain_host,
    ActivateHost: activate_host,
    ChangeHost: change_host,
    RemoveHost: remove_host,
}


# ------------------------------------------------------------------------------------------------ outcome


async def succeeded(
    inventory: Inventory, tx: Transaction, operation: Operation, host: Host, outcome: ExecutionSucceeded
) -> None:
    """The executor reached or prepared it."""
    if outcome.facts is not None:
        host.facts = outcome.facts
        host.last_seen_at = min(outcome.ended_at, tx.now)
    ready = bool(outcome.result.get("ready", True))
    if outcome.subject_verb == "host.enrol" and (not ready or operation.command.get("prepare")):
        await _not_ready(tx, operation, host, str(outcome.result.get("reason", "its hypervisor is not ready")))
        return
    event = {
        EnrolHost.subject: HostEnrolled,
        PrepareHost.subject: HostPrepared,
        ActivateHost.subject: HostActivated,
    }[operation.verb]
    host.operation_id = None
    host.settle(HostState.READY)
    tx.tell_host(event, host, operation.id)
    await tx.hosts.save(host, tx.now)
    await engine.end(tx, operation, None, outcome.result)
    inventory.retry_waiting_after(tx)


async def failed(tx: Transaction, operation: Operation, host: Host, outcome: ExecutionFailed) -> None:
    """The executor could not reach or prepare it."""
    if outcome.subject_verb == "host.enrol":
        await _not_ready(tx, operation, host, outcome.error.message, outcome.error)
        return
    host.operation_id = None
    if operation.context.state_before == HostState.UNREACHABLE:
        host.state, host.state_reason = HostState.UNREACHABLE, outcome.error.message
    else:
        # What was in maintenance stays there: it may carry partitions.
        before = operation.context.state_before == HostState.MAINTENANCE
        host.settle(HostState.MAINTENANCE if before else HostState.ENROLLED, outcome.error.message)
    tx.tell_host(HostChanged, host, operation.id, outcome.error.message)
    await tx.hosts.save(host, tx.now)
    await engine.end(tx, operation, outcome.error)


async def _not_ready(
    tx: Transaction, operation: Operation, host: Host, reason: str, error: Problem | None = None
) -> None:
    if operation.command.get("prepare"):
        host.state, host.state_reason = HostState.PREPARING, reason
        _route(tx, operation, host, ExecutePrepareHost, "is being prepared")
        tx.tell_host(HostChanged, host, operation.id, "prepare")
        tx.tell_operation(OperationProgressed, operation)
        tx.operations.save(operation, tx.now)
    else:
        host.operation_id = None
        host.settle(HostState.ENROLLED, reason)
        tx.tell_host(HostChanged, host, operation.id, reason)
        problem = error or Problem(
            code=ProblemCode.CONFLICT,
            message=f"The host {host.name!r} was reached, but {reason}. Prepare it, then it can carry partitions.",
        )
        await engine.end(tx, operation, problem)
    await tx.hosts.save(host, tx.now)


# ------------------------------------------------------------------------------------------------ away


async def doubt_partitions(tx: Transaction, host: Host) -> None:
    """The host does not answer: nobody knows what its running partitions do."""
    for known in await tx.partitions.on_host(host.id):
        if known.state not in (PartitionState.RUNNING, PartitionState.PAUSED) or known.operation_id is not None:
            continue
        partition = await tx.partitions.lock(known.id)
        if partition and partition.operation_id is None and partition.host_id == host.id:
            partition.state = PartitionState.UNKNOWN
            await tx.tell_partition(PartitionChanged, partition, reason=f"{host.name} does not answer")
            tx.partitions.save(partition, tx.now)
