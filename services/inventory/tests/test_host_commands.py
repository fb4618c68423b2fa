"""Each command on a host, and evacuation: what it does, what it tells, what it refuses."""

import pytest
from support.expectations import done, refused

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.host import (
    ActivateHost,
    ChangeHost,
    EnrolHost,
    GetHost,
    HostConnection,
    HostFailed,
    MaintainHost,
    PrepareHost,
    RemoveHost,
)
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import CancelOperation, ListOperations
from openqrm.contracts.partition import (
    AdoptPartition,
    CreatePartition,
    DeletePartition,
    GetPartition,
    MigratePartition,
    NicSpec,
    RebootPartition,
    StartPartition,
)


async def host_is(plane, ref: str, state: str) -> None:
    async def there() -> bool:
        return (await plane.host(ref)).state == state

    await plane.until(there)


# ------------------------------------------------------------------------------------------------ enrol, prepare


async def test_enrol_host(plane, name):
    command = EnrolHost(
        name=name,
        technology="fake",
        connection=HostConnection(uri=f"fake://{new_id().hex}?cpus=4&memory_mib=8192"),
        tags=("ssd",),
    )
    ended = await plane.run(command)
    await done(plane, ended, "host.enrolled")
    view = await plane.host(name)
    assert (view.id, view.state, view.facts.cpus, view.facts.memory_mib) == (command.host_id, "ready", 4, 8192)
    assert view.tags == ("ssd",)


async def test_enrol_host_refuses(plane, name, host):
    connection = HostConnection(uri=f"fake://{new_id().hex}")
    unknown = EnrolHost(name=name, technology="vax", connection=connection)
    refused(await plane.run(unknown), ProblemCode.NOT_FOUND, "vax")
    taken = EnrolHost(name=host.name, technology="fake", connection=connection)
    refused(await plane.run(taken), ProblemCode.DUPLICATE, "name")
    scheme = EnrolHost(name=name, technology="fake", connection=HostConnection(uri="qemu://x"))
    refused(await plane.run(scheme), ProblemCode.INVALID, "qemu", "fake")
    twice = EnrolHost(name=name, technology="fake", connection=host.connection)
    refused(await plane.run(twice), ProblemCode.DUPLICATE, host.name)


async def test_enrol_host_that_does_not_answer(plane, name):
    ended = await plane.enrol(name, f"fake://{new_id().hex}?unreachable=yes")
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.HOST_FAILED)
    view = await plane.host(name)
    assert view.state == "enrolled"
    assert "does not answer" in view.state_reason
    plane.fake(view).find()
    ended = await plane.run(ActivateHost(host=name))
    await done(plane, ended, "host.activated")
    assert (await plane.host(name)).state == "ready"


async def test_enrol_host_and_prepare_it_at_once(plane, name):
    ended = await plane.enrol(name, f"fake://{new_id().hex}?prepared=no", prepare=True)
    await done(plane, ended, "host.enrolled")
    assert ended.result["changes"]


async def test_prepare_host(plane, name):
    ended = await plane.enrol(name, f"fake://{new_id().hex}?prepared=no")
    assert ended.state == "failed"
    assert "repare" in ended.error.message
    ended = await plane.run(PrepareHost(host=name))
    await done(plane, ended, "host.prepared")
    assert (await plane.host(name)).state == "ready"
    refused(await plane.run(PrepareHost(host=name)), ProblemCode.WRONG_STATE, "ready", "maintain")


async def test_prepare_host_in_maintenance_that_fails_leaves_it_there(plane, name, host):
    await plane.run(MaintainHost(host=host.name))
    plane.fake(host).lose()
    await host_is(plane, host.name, "unreachable")
    ended = await plane.run(PrepareHost(host=host.name))
    assert ended.state == "failed"
    assert (await plane.host(host.name)).state == "unreachable"
    plane.fake(host).find()
    await host_is(plane, host.name, "maintenance")


# ------------------------------------------------------------------------------------------------ maintain, activate


async def test_maintain_host(plane, name, host):
    await plane.make(name, host=host.name, start=True)
    ended = await plane.run(MaintainHost(host=host.name))
    await done(plane, ended, "host.maintained")
    assert (await plane.partition(name)).state == "running"
    full = await plane.run(CreatePartition(name=f"{name} 2", technology="fake", host=host.name, memory_mib=64))
    assert (full.state, full.error.code) == ("failed", ProblemCode.NO_FIT)
    assert full.error.details["refused_by"] == {"state": 1}
    refused(await plane.run(MaintainHost(host=host.name)), ProblemCode.WRONG_STATE, "maintenance", "activate")


async def test_activate_host(plane, name, host):
    await plane.run(MaintainHost(host=host.name))
    waits = CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64, wait_for_capacity=True)
    await plane.client.publish(waits)
    await plane.operation(waits.operation_id, "waiting")
    ended = await plane.run(ActivateHost(host=host.name))
    await done(plane, ended, "host.activated")
    assert (await plane.end_of(waits.operation_id)).state == "succeeded", "capacity appeared"
    refused(await plane.run(ActivateHost(host=host.name)), ProblemCode.WRONG_STATE, "ready")


async def test_maintain_and_activate_a_host_that_is_away_are_remembered(plane, host):
    plane.fake(host).lose()
    await host_is(plane, host.name, "unreachable")
    refused(await plane.run(MaintainHost(host=host.name, evacuate=True)), ProblemCode.CONFLICT, "does not answer")
    assert (await plane.run(MaintainHost(host=host.name))).state == "succeeded"
    assert (await plane.host(host.name)).state == "unreachable"
    plane.fake(host).find()
    await host_is(plane, host.name, "maintenance")
    plane.fake(host).lose()
    await host_is(plane, host.name, "unreachable")
    assert (await plane.run(ActivateHost(host=host.name))).state == "succeeded"
    plane.fake(host).find()
    await host_is(plane, host.name, "ready")


async def test_change_host(plane, name, host):
    ended = await plane.run(ChangeHost(host=host.name, name=name, tags=("ssd",), cpu_overcommit=5.0))
    assert ended.state == "succeeded"
    view = await plane.host(name)
    assert (view.id, view.tags, view.cpu_overcommit) == (host.id, ("ssd",), 5.0)
    large = await plane.make(f"{name} p", host=name, vcpus=40)
    assert large.host_id == host.id
    refused(await plane.run(ChangeHost(host=host.name, tags=())), ProblemCode.NOT_FOUND, host.name)
    stale = ChangeHost(host=name, tags=(), expected_revision=1)
    refused(await plane.run(stale), ProblemCode.PRECONDITION)


async def test_change_host_refuses_the_address_of_another(plane, host, other):
    ended = await plane.run(ChangeHost(host=host.name, connection=other.connection))
    refused(ended, ProblemCode.DUPLICATE, other.name)


# ------------------------------------------------------------------------------------------------ remove


async def test_remove_host(plane, name, host):
    await plane.make(name, host=host.name)
    refused(await plane.run(RemoveHost(host=host.name)), ProblemCode.CONFLICT, "1 partitions")
    await plane.run(DeletePartition(partition=name))
    ended = await plane.run(RemoveHost(host=host.name))
    await done(plane, ended, "host.removed")
    assert (await plane.ask(GetHost(host=str(host.id)))).state == "removed"
    refused(await plane.run(RemoveHost(host=host.name)), ProblemCode.NOT_FOUND, host.name)


async def test_remove_host_by_force_and_adopt_what_ran_there(plane, name, host):
    view = await plane.make(name, host=host.name, start=True, nics=(NicSpec(network="default"),))
    ended = await plane.run(RemoveHost(host=host.name, force=True))
    assert ended.state == "succeeded"
    assert (await plane.ask(GetPartition(partition=str(view.id)))).state == "deleted"
    assert plane.fake(host).get(view.id).runs, "it is not touched on the host itself"
    back = await plane.run(EnrolHost(name=host.name, technology="fake", connection=host.connection))
    assert back.state == "succeeded"
    await plane.event("partition.discovered", host_id=back.target_id)
    adopted = await plane.run(AdoptPartition(host=host.name, partition_id=view.id))
    await done(plane, adopted, "partition.adopted")
    after = await plane.partition(name)
    assert (after.id, after.state, after.epoch) == (view.id, "running", 2)
    assert after.revision > view.revision


async def test_remove_host_by_force_in_the_middle_of_everything(plane, name, host, other):
    """Operations on its partitions end, and what they hold elsewhere is given back."""
    slow = f"{name} !migrate-slow=30"
    await plane.make(slow, host=host.name, start=True)
    away = MigratePartition(partition=slow, host=other.name)
    coming_name = f"{name} coming !migrate-slow=30"
    await plane.make(coming_name, host=other.name, start=True)
    coming = MigratePartition(partition=coming_name, host=host.name)
    growing = CreatePartition(name=f"{name} !create-slow=30", technology="fake", host=host.name, memory_mib=128)
    queued = StartPartition(partition=slow)
    for command in (away, coming, growing, queued):
        await plane.client.publish(command)
    await plane.operation(away.operation_id, "running")
    await plane.event("partition.changed", operation_id=coming.operation_id)
    await plane.operation(queued.operation_id, "queued")
    refused(await plane.run(RemoveHost(host=host.name)), ProblemCode.CONFLICT)

    async def all_sent() -> bool:
        on = await plane.host(host.name)
        return on.partitions == 3 and (await plane.host(other.name)).partitions == 2

    await plane.until(all_sent)
    assert (await plane.run(RemoveHost(host=host.name, force=True))).state == "succeeded"
    for command in (away, coming, growing):
        ended = await plane.end_of(command.operation_id)
        assert (ended.state, ended.error.code) == ("failed", ProblemCode.HOST_FAILED)
    assert (await plane.end_of(queued.operation_id)).state == "failed"
    assert (await plane.host(other.name)).partitions == 1
    view = await plane.partition(coming_name)
    assert (view.host_name, view.target_host_id) == (other.name, None)


# ------------------------------------------------------------------------------------------------ evacuation


async def test_evacuation(plane, name, host, other):
    for number in range(3):
        await plane.make(f"{name} {number}", host=host.name, start=number > 0)
    await plane.run(ChangeHost(host=other.name, tags=(name,)))
    ended = await plane.run(MaintainHost(host=host.name, evacuate=True))
    assert (ended.state, ended.result) == ("succeeded", {"moved": 3})
    view = await plane.host(host.name)
    assert (view.state, view.partitions, view.operation_id) == ("maintenance", 0, None)


async def test_evacuation_of_an_empty_host(plane, host):
    ended = await plane.run(MaintainHost(host=host.name, evacuate=True))
    await done(plane, ended, "host.maintained")


async def test_evacuation_names_what_could_not_be_moved(plane, name, host, other):
    await plane.make(f"{name} good", host=host.name)
    await plane.make(f"{name} !migrate-fails", host=host.name, start=True)
    large = await plane.ready_host(f"large {name}", "cpus=64&memory_mib=262144")
    await plane.make(f"{name} huge", host=large.name, memory_mib=200_000)
    crashed = await plane.make(f"{name} crashed", host=host.name, start=True, on_crash="stay")
    plane.fake(host).crash(crashed.id)
    await plane.event("partition.crashed", reason="crashed; it stays down, as its policy says")
    ended = await plane.run(MaintainHost(host=host.name, evacuate=True))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.CONFLICT)
    assert "2 partitions are still on" in ended.error.message
    assert f"{name} crashed: " in ended.error.message
    view = await plane.host(host.name)
    assert (view.state, view.operation_id) == ("maintenance", None)
    ended = await plane.run(MaintainHost(host=large.name, evacuate=True))
    assert "huge: None of" in ended.error.message


async def test_evacuation_goes_on_when_its_host_was_lost_for_a_while(plane, name, host, other):
    slow = f"{name} !migrate-slow=1"
    await plane.make(slow, host=host.name, start=True)
    command = MaintainHost(host=host.name, evacuate=True)
    await plane.client.publish(command)
    await host_is(plane, host.name, "draining")
    plane.fake(host).lose()
    await host_is(plane, host.name, "unreachable")
    ended = await plane.end_of(command.operation_id)
    assert ended.state == "failed"
    plane.fake(host).find()
    await host_is(plane, host.name, "maintenance")


async def test_evacuation_can_be_cancelled(plane, name, host, other):
    names = [f"{name} {number} !migrate-slow=30" for number in range(4)]
    for each in names:
        await plane.make(each, host=host.name, start=True)
    command = MaintainHost(host=host.name, evacuate=True)
    await plane.client.publish(command)

    async def some_move() -> bool:
        moves = await plane.ask(ListOperations(verb="partition.migrate", state="running"))
        return len([move for move in moves.items if move.target_name in names]) == 4

    await plane.until(some_move)
    refused(await plane.run(MaintainHost(host=host.name)), ProblemCode.CONFLICT, "busy", str(command.operation_id))
    assert (await plane.run(CancelOperation(target_operation_id=command.operation_id))).state == "succeeded"
    assert (await plane.end_of(command.operation_id)).state == "cancelled"
    assert (await plane.host(host.name)).state == "ready"

    async def all_back() -> bool:
        views = [await plane.partition(each) for each in names]
        return all(view.state == "running" and view.operation_id is None for view in views)

    await plane.until(all_back)
    assert (await plane.host(host.name)).partitions == 4


async def test_evacuation_does_not_trust_who_says_to_be_a_part_of_it(plane, name, host, other):
    await plane.make(name, host=host.name)
    foreign = await plane.run(MigratePartition(partition=name, requested_by=f"operation {new_id()}"))
    assert foreign.state == "succeeded"
    ended = await plane.run(MigratePartition(partition=name, requested_by="operation 12"))
    assert ended.state == "succeeded"


# ------------------------------------------------------------------------------------------------ failed


async def test_host_failed(plane, name, host):
    """What waits for it is purged and ends; what it carries is in doubt; it comes back only when it is in order."""
    view = await plane.make(f"{name} !stop-hangs", host=host.name, start=True)
    plane.fake(host).lose()
    await host_is(plane, host.name, "unreachable")
    late = StartPartition(partition=view.name)
    refused(await plane.run(late), ProblemCode.WRONG_STATE, "unknown")
    create = CreatePartition(name=f"{name} 2", technology="fake", host=host.name, memory_mib=64)
    assert (await plane.run(create)).error.code is ProblemCode.NO_FIT
    await plane.publish(HostFailed(host_id=host.id, proof="its power is off"), "ha-monitor")
    await host_is(plane, host.name, "failed")
    await plane.publish(HostFailed(host_id=host.id, proof="its power is off"), "ha-monitor")
    plane.fake(host).find()
    await host_is(plane, host.name, "ready")
    assert (await plane.partition(view.name)).state == "running"


async def test_host_failed_ends_what_was_being_executed_there(plane, name, host):
    await plane.make(f"{name} !reboot-hangs", host=host.name, start=True)
    hanging = RebootPartition(partition=f"{name} !reboot-hangs")
    await plane.client.publish(hanging)
    await plane.operation(hanging.operation_id, "running")
    await plane.publish(HostFailed(host_id=host.id, proof="fenced"), "ha-monitor")
    ended = await plane.end_of(hanging.operation_id)
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.HOST_FAILED)
    assert "fenced" in ended.error.message
    assert (await plane.partition(f"{name} !reboot-hangs")).state in ("unknown", "running")


@pytest.mark.parametrize("verb", [MaintainHost, ActivateHost, PrepareHost, RemoveHost, ChangeHost])
async def test_a_host_that_does_not_exist(plane, verb):
    refused(await plane.run(verb(host="no such host ☃")), ProblemCode.NOT_FOUND, "no such host ☃")
