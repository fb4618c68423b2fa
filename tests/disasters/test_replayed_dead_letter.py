"""A routed command comes back from the dead letters when its partition has long been somewhere else."""

from datetime import timedelta
from uuid import UUID

from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.bus.envelope import make_headers
from openqrm.contracts.dead_letter import DeadLetter, ListDeadLetters, MessageDeadLettered, ReplayMessage
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.execution import ExecuteStartPartition, ExecutionFailed
from openqrm.contracts.ids import new_id
from openqrm.contracts.message import address
from openqrm.contracts.partition import MigratePartition, PartitionDefinition, PartitionView, StartPartition


async def _letter(plane: ControlPlane, host_id: UUID, made: PartitionView) -> DeadLetter:
    """What an executor gave up an hour ago: the start of a partition on the host where it was then."""
    fields = made.model_dump(include=set(PartitionDefinition.model_fields)) | {"disks": (), "nics": ()}
    command = ExecuteStartPartition(
        operation_id=new_id(), host_id=host_id, technology="fake", partition=PartitionDefinition(**fields)
    )
    then = plane.clock.now() - timedelta(hours=1)
    return DeadLetter(
        id=new_id(),
        subject=address(command),
        headers=make_headers(command, "inventory", then, made.id),
        body=command.model_dump_json().encode(),
        consumer="EXECUTIONS/executor-fake",
        deliveries=5,
        error=Problem(code=ProblemCode.INTERNAL, message="Handling it failed 5 times."),
        occurred_at=then,
    )


async def test_it_is_refused_and_starts_nothing(plane: ControlPlane) -> None:
    one = await plane.ready_host("was here")
    other = await plane.ready_host("is here")
    made = await plane.make("moved since", host="was here")
    letter = await _letter(plane, one.id, made)
    await plane.publish(MessageDeadLettered(letter=letter))
    await plane.until(lambda: _is_kept(plane, letter.id))
    for command in (MigratePartition(partition="moved since", host="is here"), StartPartition(partition="moved since")):
        assert (await plane.run(command)).state == "succeeded"
    seen = len(plane.events)
    assert (await plane.run(ReplayMessage(letter_id=letter.id))).state == "succeeded", "it is sent again"
    refused = await plane.event("execution.failed", after=seen)
    assert isinstance(refused, ExecutionFailed)
    assert refused.error.code is ProblemCode.STALE_EPOCH
    assert [host.name for host in plane.world.runs_on(made.id)] == [plane.fake(other).name]
    assert plane.fake(one).get(made.id) is None
    assert await broken_invariants(plane) == []


async def _is_kept(plane: ControlPlane, letter_id: UUID) -> bool:
    return letter_id in {letter.id for letter in (await plane.ask(ListDeadLetters())).items}
