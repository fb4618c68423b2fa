"""What executors see against what should be: crashes, strangers, what is missing, drift, hosts that come and go."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from openqrm.bus.delivery import Delivery
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.execution import ExecutionSucceeded
from openqrm.contracts.host import HostDisconnected, HostObserved, RemoveHost
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import (
    CreatePartition,
    DeletePartition,
    ListStrangers,
    MigratePartition,
    NicSpec,
    PartitionObserved,
    PausePartition,
    ResizePartition,
    StartPartition,
    StopPartition,
)
from openqrm.contracts.states import ObservedState
from openqrm.inventory.flows import undelivered
from openqrm.inventory.handlers.observation import host_observed


async def state(plane, name: str, wanted: str) -> None:
    async def reached() -> bool:
        return (await plane.partition(name)).state == wanted

    await plane.until(reached)


# ------------------------------------------------------------------------------------------------ by itself


async def test_a_crash_is_followed_by_a_restart(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    plane.fake(host).crash(view.id)
    crashed = await plane.event("partition.crashed", reason="crashed; it is started again")
    assert crashed.partition.state == "crashed"
    await state(plane, name, "running")


async def test_too_many_crashes_end_that(plane, name, host):
    name = f"{name} !crash-after=0.05"
    view = await plane.make(name, host=host.name, start=True)

    async def stays_down() -> bool:
        return any(
            subject == "partition.crashed" and event.partition.id == view.id and "stays down" in event.reason
            for subject, event in plane.events
        )

    await plane.until(stays_down)
    assert plane.fake(host).get(view.id).starts == 4
    assert (await plane.partition(name)).state == "crashed"


async def test_a_crash_can_be_left_alone(plane, name, host):
    view = await plane.make(name, host=host.name, start=True, on_crash="stay")
    plane.fake(host).crash(view.id)
    await state(plane, name, "crashed")
    await plane.event("partition.crashed", reason="crashed; it stays down, as its policy says")


async def test_a_guest_that_switches_itself_off_did_not_crash(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    plane.fake(host).switch_off(view.id)
    await state(plane, name, "stopped")
    assert (await plane.partition(name)).desired_state == "stopped"


async def test_a_crash_while_an_operation_is_at_work_is_not_lost(plane, name, host):
    name = f"{name} !pause-slow=0.5"
    view = await plane.make(name, host=host.name, start=True)
    pause = PausePartition(partition=name)
    await plane.client.publish(pause)
    await plane.operation(pause.operation_id, "running")
    plane.fake(host).crash(view.id)
    assert (await plane.end_of(pause.operation_id)).state == "failed"
    await state(plane, name, "running")
    assert plane.fake(host).get(view.id).starts == 2


async def test_what_was_started_by_hand_is_noted(plane, name, host):
    view = await plane.make(name, host=host.name)
    plane.fake(host).switch_on(view.id)
    await state(plane, name, "running")
    assert (await plane.partition(name)).desired_state == "running"


async def test_what_is_missing_is_told(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    plane.fake(host).remove_by_hand(view.id)
    await state(plane, name, "missing")
    assert (await plane.host(host.name)).memory_reserved_mib == 256, "it still has its place"


# ------------------------------------------------------------------------------------------------ drift


async def test_drift_is_told_and_told_again_when_it_is_gone(plane, name, host):
    view = await plane.make(name, host=host.name, start=True, nics=(NicSpec(network="default"),), memory_max_mib=512)
    with plane.fake(host).change_partition(view.id) as found:
        found.live.memory_mib, found.live.vcpus = 100, 3
        found.nics[0].bridge = "br2"

    async def drifts() -> bool:
        return bool((await plane.partition(name)).drift)

    await plane.until(drifts)
    told = [
        event for subject, event in plane.events if subject == "partition.drifted" and event.partition.id == view.id
    ]
    assert {(drift.field, drift.wanted, drift.found) for drift in told[-1].partition.drift} == {
        ("memory_mib", "256", "100"),
        ("vcpus", "1", "3"),
        (f"nics.{view.nics[0].mac}", "br0", "br2"),
    }
    with plane.fake(host).change_partition(view.id) as found:
        found.nics[0].bridge = "br0"
    ended = await plane.run(ResizePartition(partition=name, memory_mib=300, vcpus=1))
    assert ended.state == "succeeded"
    assert (await plane.partition(name)).drift == (), "what the executor saw at the end counts at once"


# ------------------------------------------------------------------------------------------------ strangers


async def test_strangers_are_shown_once_and_forgotten_when_gone(plane, name, host):
    stranger = plane.fake(host).add_stranger(name)
    told = await plane.event("partition.discovered", host_id=host.id)
    assert (told.observed.id, told.observed.name, told.host_name) == (stranger, name, host.name)
    plane.fake(host).switch_off(stranger)

    async def shown_as_stopped() -> bool:
        (shown,) = (await plane.ask(ListStrangers(host=host.name))).items
        return shown.observed.state is ObservedState.STOPPED

    await plane.until(shown_as_stopped)
    assert sum(s == "partition.discovered" and e.host_id == host.id for s, e in plane.events) == 1
    plane.fake(host).remove_by_hand(stranger)

    async def forgotten() -> bool:
        return not (await plane.ask(ListStrangers(host=host.name))).items

    await plane.until(forgotten)


# ------------------------------------------------------------------------------------------------ hosts


async def test_a_lost_host_puts_its_partitions_in_doubt_and_nothing_is_started_elsewhere(plane, name, host, other):
    runs = await plane.make(name, host=host.name, start=True)
    await plane.make(f"{name} off", host=host.name)
    plane.fake(host).lose()
    await state(plane, name, "unknown")
    await plane.event("host.lost")
    assert (await plane.partition(f"{name} off")).state == "stopped"
    moved = await plane.run(MigratePartition(partition=name, host=other.name))
    assert moved.state == "rejected"
    plane.fake(host).find()
    await state(plane, name, "running")
    assert plane.world.runs_on(runs.id) == [plane.fake(host)]
    assert (await plane.host(host.name)).state == "ready"


async def test_a_power_cut_is_a_crash_once_the_host_is_back(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    plane.fake(host).cut_power()
    await state(plane, name, "unknown")
    plane.fake(host).restore_power()
    await state(plane, name, "running")
    assert plane.fake(host).get(view.id).starts == 2


async def test_a_host_with_something_stale_is_returning_until_that_is_gone(plane, name, host, other):
    view = await plane.make(name, host=host.name)
    plane.fake(host).lose()

    async def is_lost() -> bool:
        return (await plane.host(host.name)).state == "unreachable"

    await plane.until(is_lost)
    async with plane.inventory.inventory.database.transaction() as connection:  # as a failover will do
        move = "UPDATE partitions SET host_id = :there WHERE id = :id"
        await connection.execute(text(move), {"there": other.id, "id": view.id})
        for host_id, sign in ((host.id, -1), (other.id, 1)):
            count = (
                "UPDATE hosts SET memory_reserved_mib = memory_reserved_mib + :mib, cpus_reserved = cpus_reserved + "
                ":sign, partitions = partitions + :sign WHERE id = :id"
            )
            await connection.execute(text(count), {"mib": sign * 256, "sign": sign, "id": host_id})
    plane.fake(host).find()

    async def is_returning() -> bool:
        seen = await plane.host(host.name)
        return seen.state == "returning" and name in seen.state_reason

    await plane.until(is_returning)
    plane.fake(host).remove_by_hand(view.id)

    async def is_ready() -> bool:
        return (await plane.host(host.name)).state == "ready"

    await plane.until(is_ready)


# ------------------------------------------------------------------------------------------------ old and odd reports


async def test_reports_that_come_late_or_twice_change_nothing(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    now = plane.clock.now()
    gone = {"host_id": host.id, "partition_id": view.id, "observed": None}
    await plane.publish(PartitionObserved(**gone, observed_at=now - timedelta(hours=1)))
    await plane.publish(HostDisconnected(host_id=host.id, reason="old", observed_at=now - timedelta(hours=1)))
    facts = (await plane.host(host.name)).facts
    for unknown in (new_id(), view.id):
        await plane.publish(HostObserved(host_id=unknown, facts=facts, partitions=(), observed_at=now))
        await plane.publish(HostDisconnected(host_id=unknown, reason="?", observed_at=now))
        await plane.publish(PartitionObserved(**gone | {"host_id": unknown}, observed_at=now))
    outcome = {
        "operation_id": new_id(),
        "host_id": host.id,
        "technology": "fake",
        "partition_id": view.id,
        "epoch": 1,
        "subject_verb": "partition.stop",
        "observed": None,
        "ended_at": now,
    }
    await plane.publish(ExecutionSucceeded(**outcome))
    stop = await plane.run(StopPartition(partition=name))
    start = await plane.run(StartPartition(partition=name))
    assert {stop.state, start.state} == {"succeeded"}
    await plane.publish(ExecutionSucceeded(**outcome | {"operation_id": stop.id}))
    assert (await plane.partition(name)).state == "running"
    assert (await plane.host(host.name)).state == "ready"


async def test_a_clock_that_is_ahead_does_not_silence_the_reconciler(plane, name, host):
    view = await plane.make(name, host=host.name, start=True)
    ahead = plane.clock.now() + timedelta(days=365)
    await plane.publish(PartitionObserved(host_id=host.id, partition_id=view.id, observed=None, observed_at=ahead))
    await state(plane, name, "missing")
    plane.fake(host).switch_off(view.id)
    plane.fake(host).switch_on(view.id)
    await state(plane, name, "running")


async def test_a_report_of_an_earlier_step_is_not_taken_for_the_next_one(plane, name, host):
    """A forced delete is a stop and a delete under one id: a second report of the stop must not end it."""
    name = f"{name} !delete-slow=1"
    view = await plane.make(name, host=host.name, start=True)
    command = DeletePartition(partition=name, force=True)
    await plane.client.publish(command)
    stopped = await plane.event("execution.succeeded", operation_id=command.operation_id)
    await plane.publish(stopped)
    await plane.clock.sleep(0.3)
    assert (await plane.partition(name)).state == "deleting"
    assert (await plane.end_of(command.operation_id)).state == "succeeded"
    assert plane.fake(host).get(view.id) is None


async def test_a_creation_whose_host_is_lost_in_the_middle_keeps_what_it_took(plane, name, host):
    """It may run there by now: only its host can tell, and until then nobody else gets its addresses and capacity."""
    name = f"{name} !start-slow=1"
    nics = (NicSpec(network="default"),)
    command = CreatePartition(name=name, technology="fake", host=host.name, memory_mib=256, nics=nics, start=True)
    await plane.client.publish(command)
    await plane.operation(command.operation_id, "running")

    async def defined() -> bool:
        return plane.fake(host).get(command.partition_id) is not None

    await plane.until(defined)
    plane.fake(host).lose()
    assert (await plane.end_of(command.operation_id)).state == "failed"
    view = await plane.partition(name)
    assert view.state == "unknown"
    assert (await plane.host(host.name)).memory_reserved_mib >= 256
    plane.fake(host).switch_on(view.id)  # it came to run after all
    plane.fake(host).find()
    await state(plane, name, "running")
    assert plane.fake(host).get(view.id).nics[0].mac == (await plane.partition(name)).nics[0].mac


async def test_what_was_seen_before_a_creation_and_heard_of_after_it_is_old(plane, name, host):
    """As when inventory was away: everything that waited for it is handled at once, in whatever order."""
    before = plane.clock.now()
    facts = (await plane.host(host.name)).facts
    view = await plane.make(name, host=host.name)
    event = HostObserved(host_id=host.id, facts=facts, partitions=(), observed_at=before)
    delivery = Delivery(str(new_id()), "host.observed", 1, 1, published_at=before, sent_at=before)
    await host_observed(plane.inventory.inventory, event, delivery)
    assert (await plane.partition(str(view.id))).state == "stopped"


async def test_a_host_with_many_partitions_is_read_quickly(plane, name, host):
    """What is no news costs no lock and no statement of its own."""
    strangers = [plane.fake(host).add_stranger(f"{name} {number}", memory_mib=16) for number in range(500)]

    async def all_seen() -> bool:
        page = await plane.ask(ListStrangers(host=host.name, paging={"limit": 500}))
        return len(page.items) == len(strangers)

    await plane.until(all_seen)
    facts = (await plane.host(host.name)).facts
    event = HostObserved(
        host_id=host.id, facts=facts, partitions=plane.fake(host).observe(), observed_at=plane.clock.now()
    )
    took = []
    for _ in range(5):
        delivery = Delivery(str(new_id()), "host.observed", 1, 1, plane.clock.now())
        began = plane.clock.monotonic()
        await host_observed(plane.inventory.inventory, event, delivery)
        took.append(plane.clock.monotonic() - began)
    assert min(took) < 1.0  # 0.04 s on an idle machine
    for stranger in strangers:
        with plane.fake(host).change() as content:
            del content.partitions[stranger]


# ------------------------------------------------------------------------------------------------ broken migrations


@pytest.mark.parametrize(
    ("side", "where", "wanted"),
    [
        ("source", "host", "running"),
        ("target", "other", "running"),
        ("neither", "host", "missing"),
    ],
)
async def test_a_migration_that_breaks_off_is_settled(plane, name, host, other, side, where, wanted):
    name = f"{name} !migrate-ends-on={side}"
    view = await plane.make(name, host=host.name, start=True)
    ended = await plane.run(MigratePartition(partition=name, host=other.name))
    assert ended.state == "failed"
    after = await plane.partition(name)
    place = {"host": host, "other": other}[where]
    assert (after.host_id, after.target_host_id, after.state) == (place.id, None, wanted)
    assert (await plane.host(place.name)).partitions == 1
    if wanted == "running":
        assert plane.world.runs_on(view.id) == [plane.fake(place)]
        await plane.run(StopPartition(partition=name))
    assert (await plane.run(StartPartition(partition=name))).state == "succeeded"


async def lose_sight_of(plane, name: str, command: MigratePartition) -> None:
    """Begin a migration, and end its operation as if its executor never reported."""
    await plane.client.publish(command)

    async def on_its_way() -> bool:
        return (await plane.partition(name)).target_host_id is not None

    await plane.until(on_its_way)
    problem = Problem(code=ProblemCode.HOST_FAILED, message="Nobody knows what became of it.")
    await undelivered.fail(plane.inventory.inventory, command.operation_id, "fake", problem)
    assert (await plane.end_of(command.operation_id)).state == "failed"


async def test_a_migration_of_which_nobody_knows_the_end(plane, name, host, other):
    """Both places stay reserved and nothing can be done to it until the hosts have shown who has it."""
    slow = f"{name} !migrate-slow=30"
    view = await plane.make(slow, host=host.name, start=True)
    await lose_sight_of(plane, slow, MigratePartition(partition=slow, host=other.name))
    unknown = await plane.partition(slow)
    assert (unknown.state, unknown.host_id, unknown.target_host_id) == ("unknown", host.id, other.id)
    assert ((await plane.host(host.name)).partitions, (await plane.host(other.name)).partitions) == (1, 1)
    for verb in (StopPartition, StartPartition, DeletePartition, MigratePartition):
        refused = await plane.run(verb(partition=slow))
        assert refused.state == "rejected"
        if verb is StopPartition:
            assert host.name in refused.error.message
            assert other.name in refused.error.message
    plane.fake(other).lose()
    plane.fake(host).lose()
    await plane.clock.sleep(0.3)
    plane.fake(other).find()
    plane.fake(host).find()
    await state(plane, slow, "running")
    after = await plane.partition(slow)
    assert (after.host_id, after.target_host_id) == (host.id, None)
    assert ((await plane.host(host.name)).partitions, (await plane.host(other.name)).partitions) == (1, 0)
    assert plane.world.runs_on(view.id) == [plane.fake(host)]


async def test_a_host_that_does_not_have_it_shows_that_as_well(plane, name, host, other):
    """A partition at rest is only known to be on its old host once the new one was seen without it."""
    slow = f"{name} !migrate-slow=30"
    await plane.make(slow, host=host.name)
    await lose_sight_of(plane, slow, MigratePartition(partition=slow, host=other.name, live=False))
    for place in (other, host):
        plane.fake(place).lose()
    await plane.clock.sleep(0.3)
    for place in (other, host):
        plane.fake(place).find()
    await state(plane, slow, "stopped")
    after = await plane.partition(slow)
    assert (after.host_id, after.target_host_id) == (host.id, None)
    assert ((await plane.host(host.name)).partitions, (await plane.host(other.name)).partitions) == (1, 0)


async def test_a_migration_that_went_well_after_it_was_given_up(plane, name, host, other):
    slow = f"{name} !migrate-slow=1"
    view = await plane.make(slow, host=host.name, start=True)
    await lose_sight_of(plane, slow, MigratePartition(partition=slow, host=other.name))
    await state(plane, slow, "running")
    after = await plane.partition(slow)
    assert (after.host_id, after.target_host_id) == (other.id, None)
    assert ((await plane.host(host.name)).partitions, (await plane.host(other.name)).partitions) == (0, 1)
    assert plane.world.runs_on(view.id) == [plane.fake(other)]


async def test_one_host_of_a_lost_migration_is_gone_for_good(plane, name, host, other):
    slow = f"{name} !migrate-slow=30"
    view = await plane.make(slow, host=host.name, start=True)
    await lose_sight_of(plane, slow, MigratePartition(partition=slow, host=other.name))
    plane.fake(other).lose()
    assert (await plane.run(RemoveHost(host=other.name, force=True))).state == "succeeded"
    plane.fake(host).lose()
    await plane.clock.sleep(0.3)
    plane.fake(host).find()
    await state(plane, slow, "running")
    assert (await plane.partition(slow)).host_id == host.id
    assert plane.world.runs_on(view.id) == [plane.fake(host)]
