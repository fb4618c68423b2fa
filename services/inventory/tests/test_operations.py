"""Operations: one per id, queued on a busy partition, cancelled where the verb allows, never stuck."""

import asyncio
from uuid import UUID, uuid4

import pytest
from support.expectations import refused

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.host import MaintainHost
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import CancelOperation, GetOperation, ListOperations
from openqrm.contracts.partition import (
    AttachNic,
    ChangePartition,
    CreatePartition,
    DeletePartition,
    MigratePartition,
    NicSpec,
    PausePartition,
    RebootPartition,
    StartPartition,
    StopPartition,
)
from openqrm.inventory import engine
from openqrm.inventory.flows import partitions
from openqrm.inventory.handlers import partition as plans


async def raw(plane, command, **headers: str) -> None:
    """Publish a command so that the server does not see that it came before."""
    await plane.client.js.publish(
        command.subject, command.model_dump_json().encode(), headers={"ce-id": str(new_id()), **headers}
    )


# ------------------------------------------------------------------------------------------------ one per id


async def test_the_same_command_twice_is_one_operation(plane, name, host):
    command = CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64)
    await asyncio.gather(*(raw(plane, command) for _ in range(10)))
    assert (await plane.end_of(command.operation_id)).state == "succeeded"
    await raw(plane, command)
    await plane.make(f"{name} 2", host=host.name)
    accepted = [
        event
        for subject, event in plane.events
        if subject == "operation.accepted" and event.operation.id == command.operation_id
    ]
    assert len(accepted) == 1
    assert (await plane.host(host.name)).partitions == 2


async def test_an_id_that_belongs_to_another_command(plane, name, host):
    await plane.make(name, host=host.name)
    first = StartPartition(partition=name)
    await plane.run(first)
    for other in (
        StopPartition(partition=name, operation_id=first.operation_id),
        StartPartition(partition=f"{name} 2", operation_id=first.operation_id),
    ):
        before = len(plane.events)
        await raw(plane, other)
        letter = await plane.event("message.dead_lettered", after=before)
        assert "Choose a new operation_id" in letter.letter.error.message
    assert (await plane.partition(name)).state == "running"


async def test_a_command_without_an_id_gets_that_of_its_message(plane, name, host):
    await plane.make(name, host=host.name)
    message_id = str(uuid4())
    body = f'{{"partition": "{name}"}}'.encode()
    for _ in range(2):
        await plane.client.js.publish("partition.start", body, headers={"ce-id": message_id})
    assert (await plane.end_of(UUID(message_id))).state == "succeeded"
    await plane.client.js.publish("partition.stop", body, headers={"ce-id": "not a uuid"})

    async def stopped() -> bool:
        return (await plane.partition(name)).state == "stopped"

    await plane.until(stopped)


# ------------------------------------------------------------------------------------------------ the queue


async def test_commands_on_a_busy_partition_wait_for_their_turn(plane, name, host):
    slow = f"{name} !start-slow=0.5"
    await plane.make(slow, host=host.name)
    commands = [
        StartPartition(partition=slow),
        PausePartition(partition=slow),
        StartPartition(partition=slow),  # not allowed any more when it is its turn
        StopPartition(partition=slow),
        ChangePartition(partition=slow, tags=("x",)),
        DeletePartition(partition=slow),
        StartPartition(partition=slow),  # nothing is left of it
    ]
    for command in commands:
        await plane.client.publish(command)
    await plane.operation(commands[-1].operation_id, "queued")
    ended = [await plane.end_of(command.operation_id) for command in commands]
    assert [operation.state for operation in ended] == [
        "succeeded",
        "succeeded",
        "failed",
        "succeeded",
        "succeeded",
        "succeeded",
        "failed",
    ]
    assert ended[2].error.code is ProblemCode.WRONG_STATE
    assert [operation.ended_at for operation in ended] == sorted(operation.ended_at for operation in ended)


async def test_different_partitions_do_not_wait_for_each_other(plane, name, host):
    slow = f"{name} !start-slow=30"
    await plane.make(slow, host=host.name)
    await plane.make(name, host=host.name)
    blocked = StartPartition(partition=slow)
    await plane.client.publish(blocked)
    await plane.operation(blocked.operation_id, "running")
    assert (await plane.run(StartPartition(partition=name))).state == "succeeded"
    assert (await plane.ask(GetOperation(operation_id=blocked.operation_id))).state == "running"
    await plane.end_of(blocked.operation_id)  # its executor gives it 3 s


async def test_a_queue_has_an_end(plane, name, host, monkeypatch):
    monkeypatch.setattr(engine, "MAX_QUEUED", 2)
    slow = f"{name} !start-slow=1"
    await plane.make(slow, host=host.name)
    commands = [StartPartition(partition=slow)] + [RebootPartition(partition=slow) for _ in range(3)]
    for command in commands:
        await plane.client.publish(command)
    states = [(await plane.end_of(command.operation_id)).state for command in commands]
    assert states == ["succeeded", "succeeded", "succeeded", "rejected"]


async def test_what_fails_unexpectedly_in_the_queue_ends(plane, name, host, monkeypatch):
    """A mistake of ours must not hold a partition's queue for ever."""
    slow = f"{name} !start-slow=0.5"
    await plane.make(slow, host=host.name)

    async def broken(turn, command):
        raise ZeroDivisionError

    monkeypatch.setitem(plans.PLANS, RebootPartition, broken)
    start, reboot, stop = StartPartition(partition=slow), RebootPartition(partition=slow), StopPartition(partition=slow)
    for command in (start, reboot, stop):
        await plane.client.publish(command)
    ended = await plane.end_of(reboot.operation_id)
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.INTERNAL)
    assert "ZeroDivisionError" in ended.error.message
    assert (await plane.end_of(stop.operation_id)).state == "succeeded"


async def test_what_a_crash_left_in_the_queue_is_begun_by_the_sweeper(plane, name, host, monkeypatch):
    async def lost(inventory, partition_id):
        pass

    slow = f"{name} !start-slow=0.5"
    await plane.make(slow, host=host.name)
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "begin_next", lost)
        start, stop = StartPartition(partition=slow), StopPartition(partition=slow)
        await plane.client.publish(start)
        await plane.client.publish(stop)
        await plane.end_of(start.operation_id)
        assert (await plane.ask(GetOperation(operation_id=stop.operation_id))).state == "queued"
    assert (await plane.end_of(stop.operation_id)).state == "succeeded"


# ------------------------------------------------------------------------------------------------ cancel


async def test_cancel_operation_that_is_queued(plane, name, host):
    slow = f"{name} !start-slow=1"
    await plane.make(slow, host=host.name)
    start, stop = StartPartition(partition=slow), StopPartition(partition=slow)
    await plane.client.publish(start)
    await plane.client.publish(stop)
    queued = await plane.operation(stop.operation_id, "queued")
    assert queued.cancellable
    assert (await plane.run(CancelOperation(target_operation_id=stop.operation_id))).state == "succeeded"
    assert (await plane.end_of(stop.operation_id)).state == "cancelled"
    assert (await plane.end_of(start.operation_id)).state == "succeeded"
    assert (await plane.partition(slow)).state == "running"


async def test_cancel_operation_that_waits_for_capacity(plane, name, host):
    await plane.run(MaintainHost(host=host.name))
    command = CreatePartition(
        name=name, technology="fake", host=host.name, memory_mib=64, wait_for_capacity=True,
        nics=(NicSpec(network="default"),),
    )  # fmt: skip
    await plane.client.publish(command)
    await plane.operation(command.operation_id, "waiting")
    assert (await plane.run(CancelOperation(target_operation_id=command.operation_id))).state == "succeeded"
    assert (await plane.end_of(command.operation_id)).state == "cancelled"
    await plane.event("partition.deleted", operation_id=command.operation_id)


async def test_cancel_operation_that_migrates(plane, name, host, other):
    slow = f"{name} !migrate-slow=30"
    view = await plane.make(slow, host=host.name, start=True)
    command = MigratePartition(partition=slow, host=other.name)
    await plane.client.publish(command)
    await plane.event("partition.changed", operation_id=command.operation_id)
    await moves(plane, slow)
    assert (await plane.run(CancelOperation(target_operation_id=command.operation_id))).state == "succeeded"
    again = await plane.run(CancelOperation(target_operation_id=command.operation_id))
    if again.state != "succeeded":
        refused(again, ProblemCode.WRONG_STATE)
    ended = await plane.end_of(command.operation_id)
    assert (ended.state, ended.error.code) == ("cancelled", ProblemCode.CANCELLED)
    after = await plane.partition(slow)
    assert (after.state, after.host_name, after.target_host_id) == ("running", host.name, None)
    assert plane.world.runs_on(view.id) == [plane.fake(host)]


async def moves(plane, name: str) -> None:
    async def on_its_way() -> bool:
        return (await plane.partition(name)).target_host_id is not None

    await plane.until(on_its_way)


async def test_cancel_operation_refuses(plane, name, host):
    refused(await plane.run(CancelOperation(target_operation_id=new_id())), ProblemCode.NOT_FOUND)
    slow = f"{name} !start-slow=1"
    await plane.make(slow, host=host.name)
    start = StartPartition(partition=slow)
    await plane.client.publish(start)
    await plane.operation(start.operation_id, "running")
    while_it_runs = await plane.run(CancelOperation(target_operation_id=start.operation_id))
    refused(while_it_runs, ProblemCode.WRONG_STATE, "partition.start", "cannot be cancelled")
    await plane.end_of(start.operation_id)
    too_late = await plane.run(CancelOperation(target_operation_id=start.operation_id))
    refused(too_late, ProblemCode.WRONG_STATE, "ended already")


async def test_many_that_cancel_and_queue_at_once_do_not_deadlock(plane, name, host):
    """Cancelling takes the same locks in the same order as beginning does."""
    slow = f"{name} !reboot-slow=0.05"
    await plane.make(slow, host=host.name, start=True)
    commands = [RebootPartition(partition=slow) for _ in range(20)]
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    await asyncio.gather(
        *(plane.run(CancelOperation(target_operation_id=command.operation_id)) for command in reversed(commands))
    )
    states = {(await plane.end_of(command.operation_id)).state for command in commands}
    assert states <= {"succeeded", "cancelled"}


async def test_everything_at_once_ends_without_a_deadlock(plane, name, host, other):
    """Many partitions, all kinds of commands on each, hosts that come and go meanwhile: all end, the books balance."""
    names = [f"{name} {number} !pause-fails=1 !migrate-fails=1" for number in range(12)]
    await asyncio.gather(*(plane.make(each, host=(host, other)[i % 2].name) for i, each in enumerate(names)))
    commands = []
    for each in names:
        commands += [
            StartPartition(partition=each),
            PausePartition(partition=each),
            AttachNic(partition=each, nic=NicSpec(network="default")),
            MigratePartition(partition=each),
            RebootPartition(partition=each),
            MigratePartition(partition=each),
            StopPartition(partition=each),
        ]
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    for _ in range(3):
        plane.fake(host).lose()
        await plane.clock.sleep(0.3)
        plane.fake(host).find()
        await plane.clock.sleep(0.3)
    for command in commands:
        await plane.end_of(command.operation_id)
    page = await plane.ask(ListOperations(state="queued"))
    assert [operation for operation in page.items if operation.target_name in names] == []


@pytest.mark.parametrize("garbage", ["\x00", "x\x00y"])
async def test_a_name_that_cannot_be_stored_is_a_dead_letter(plane, garbage):
    before = len(plane.events)
    await raw(plane, StartPartition(partition=garbage))
    letter = await plane.event("message.dead_lettered", after=before)
    assert letter.letter.error.code is ProblemCode.INVALID
