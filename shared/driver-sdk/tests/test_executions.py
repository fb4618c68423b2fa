"""Routed commands on a real nats-server become driver calls and outcomes."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.execution import (
    ExecuteAdoptPartition,
    ExecuteAttachDisk,
    ExecuteAttachNic,
    ExecuteCreatePartition,
    ExecuteDeletePartition,
    ExecuteDetachDisk,
    ExecuteDetachNic,
    ExecuteEnrolHost,
    ExecuteMapNic,
    ExecutePausePartition,
    ExecutePinPartition,
    ExecutePrepareHost,
    ExecuteRebootPartition,
    ExecuteResizePartition,
    ExecuteShutdownPartition,
    ExecuteStartPartition,
    ExecuteStopPartition,
    ExecuteUnpausePartition,
    ExecutionProgressed,
    RunsOn,
)
from openqrm.contracts.host import HostConnection, HostObserved
from openqrm.contracts.ids import new_id
from openqrm.contracts.states import ObservedState
from openqrm.driver.manifest import load_manifest
from openqrm.executor_fake.driver import FakeDriver
from openqrm.testkit.definitions import disk_definition, nic_definition, partition_definition
from openqrm.testkit.waiting import eventually

RUNNING, STOPPED, PAUSED = ObservedState.RUNNING, ObservedState.STOPPED, ObservedState.PAUSED
MAC = "02:fa:4e:00:00:01"


async def test_every_verb_on_one_partition(bench: Any) -> None:
    (view,) = await bench.ready()
    disk, nic = disk_definition(), nic_definition(MAC, "br0")
    partition = partition_definition("fake", disks=(disk,))
    second = disk_definition("vdb")

    async def do(model: type, **more: Any) -> Any:
        outcome = await bench.inventory.success(bench.command(model, view, partition, **more))
        assert (outcome.host_id, outcome.partition_id, outcome.epoch) == (view.id, partition.id, partition.epoch)
        assert outcome.subject_verb == ".".join(model.subject.split(".")[:2])
        return outcome.observed

    assert (await do(ExecuteCreatePartition, start=False)).state is STOPPED
    assert (await do(ExecuteStartPartition)).state is RUNNING
    assert (await do(ExecutePausePartition)).state is PAUSED
    assert (await do(ExecuteUnpausePartition)).state is RUNNING
    assert (await do(ExecuteRebootPartition, hard=True)).state is RUNNING
    assert [n.bridge for n in (await do(ExecuteAttachNic, nic=nic)).nics] == ["br0"]
    moved = nic.model_copy(update={"bridge": "br1"})
    assert [n.bridge for n in (await do(ExecuteMapNic, nic=moved)).nics] == ["br1"]
    assert (await do(ExecuteDetachNic, nic=moved)).nics == ()
    assert len((await do(ExecuteAttachDisk, disk=second)).disks) == 2
    assert len((await do(ExecuteDetachDisk, disk=second, keep=False)).disks) == 1
    partition = partition.model_copy(update={"memory_mib": 192})
    assert (await do(ExecuteResizePartition)).memory_mib == 192
    partition = partition.model_copy(update={"cpu_pins": {0: (1,)}})
    await do(ExecutePinPartition)
    assert bench.fake(view).get(partition.id).cpu_pins == {0: (1,)}
    assert (await do(ExecuteShutdownPartition, timeout_seconds=5, force=False)).state is STOPPED
    partition = partition.model_copy(update={"epoch": 2})
    assert (await do(ExecuteAdoptPartition)).epoch == 2
    assert (await do(ExecuteStartPartition)).state is RUNNING
    assert (await do(ExecuteStopPartition)).state is STOPPED
    assert await do(ExecuteDeletePartition) is None
    assert bench.fake(view).read().volumes == {}


async def test_a_driver_s_refusal_fails_the_execution_with_what_stands(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = await bench.run(view)
    failed = await bench.inventory.failure(bench.command(ExecuteDeletePartition, view, partition))
    assert failed.error.code is ProblemCode.WRONG_STATE
    assert failed.observed is not None
    assert failed.observed.state is RUNNING


async def test_an_unexpected_error_fails_the_execution(bench: Any) -> None:
    (view,) = await bench.ready()
    failed = await bench.inventory.failure(
        bench.command(ExecuteCreatePartition, view, partition_definition("fake", name="x !create-breaks"), start=True)
    )
    assert failed.error.code is ProblemCode.DRIVER_FAILED
    assert "ZeroDivisionError" in failed.error.message
    assert failed.observed is None
    assert "observed" not in failed.error.details, "the host was read: it has no such partition"


async def test_temporary_errors_are_retried_for_a_while(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = await bench.run(view, name="x !start-falters=1")
    assert bench.fake(view).get(partition.id).state is RUNNING
    failed = await bench.inventory.failure(
        bench.command(ExecuteCreatePartition, view, partition_definition("fake", name="x !create-falters"), start=True)
    )
    assert failed.error.code is ProblemCode.UNAVAILABLE


async def test_what_takes_too_long_is_ended(bench: Any) -> None:
    (view,) = await bench.ready(default_timeout=0.4)
    partition = await bench.run(view, name="x !pause-hangs=1")
    failed = await bench.inventory.failure(bench.command(ExecutePausePartition, view, partition))
    assert failed.error.code is ProblemCode.TIMED_OUT
    assert failed.observed is not None
    assert failed.observed.state is RUNNING
    outcome = await bench.inventory.success(bench.command(ExecutePausePartition, view, partition))
    assert outcome.observed.state is PAUSED


class StubbornDriver(FakeDriver):
    """Ignores being cancelled."""

    async def pause(self, host: Any, partition: Any, work: Any) -> None:
        for _ in range(20):
            try:
                await self._clock.sleep(0.2)
            except asyncio.CancelledError:
                continue


async def test_a_call_that_cannot_be_cancelled_is_left_behind(bench: Any) -> None:
    view = bench.host("h1")
    await bench.executor(StubbornDriver(bench.world, bench.clock), default_timeout=0.3, cancel_grace=0.1)
    await bench.connected(view)
    partition = await bench.run(view)
    failed = await bench.inventory.failure(bench.command(ExecutePausePartition, view, partition))
    assert failed.error.code is ProblemCode.TIMED_OUT
    await bench.inventory.success(bench.command(ExecuteStopPartition, view, partition))


async def test_a_forced_shutdown_stops_what_does_not_listen(bench: Any) -> None:
    (view,) = await bench.ready()
    kept, forced = [await bench.run(view, name="deaf !ignores-shutdown") for _ in range(2)]
    shutdown = {"timeout_seconds": 1}
    failed, outcome = await asyncio.gather(
        bench.inventory.failure(bench.command(ExecuteShutdownPartition, view, kept, force=False, **shutdown)),
        bench.inventory.success(bench.command(ExecuteShutdownPartition, view, forced, force=True, **shutdown)),
    )
    assert failed.error.code is ProblemCode.TIMED_OUT
    assert failed.observed.state is RUNNING
    assert outcome.observed.state is STOPPED
    assert outcome.result == {"forced": True}


class PlainDriver:
    """A driver without the capability to pause; everything else is the fake one's."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        if name in ("pause", "unpause"):
            raise AttributeError(name)
        return getattr(self._driver, name)


async def test_what_is_not_declared_is_refused_with_the_reason(bench: Any) -> None:
    manifest = load_manifest("openqrm.executor_fake")
    poorer = manifest.model_copy(
        update={
            "capabilities": manifest.capabilities - {"pause"},
            "unsupported": manifest.unsupported | {"pause": "it never stands still"},
        }
    )
    view = bench.host("h1")
    await bench.executor(PlainDriver(FakeDriver(bench.world, bench.clock)), poorer)
    await bench.connected(view)
    partition = await bench.run(view)
    failed = await bench.inventory.failure(bench.command(ExecutePausePartition, view, partition))
    assert failed.error.code is ProblemCode.UNSUPPORTED
    assert "it never stands still" in failed.error.message


async def test_progress_is_thinned_out(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first)
    samples: list[ExecutionProgressed] = []

    async def hear(sample: ExecutionProgressed) -> None:
        samples.append(sample)

    await bench.inventory.bus.listen(ExecutionProgressed, hear)
    command = bench.migration(first, second, partition, bandwidth_mib_s=128)
    await bench.inventory.success(command)
    await eventually(lambda: samples and samples[-1].progress == 100)
    assert samples[0].progress == 0
    assert 3 <= len(samples) <= 8, samples
    assert {sample.operation_id for sample in samples} == {command.operation_id}


# ------------------------------------------------------------------------------------------------ migrations


async def test_a_migration_is_read_back_from_the_target(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first)
    outcome = await bench.inventory.success(bench.migration(first, second, partition))
    assert (outcome.observed.state, outcome.observed.epoch) == (RUNNING, 2)
    assert bench.fake(first).get(partition.id) is None


async def test_a_running_migration_is_cancelled(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first)
    command = bench.migration(first, second, partition, bandwidth_mib_s=1)
    await bench.inventory.send(command)
    await eventually(lambda: bench.fake(second).get(partition.id), what="the migration has begun")
    await bench.inventory.send(bench.cancel(first, command.operation_id))
    failed = await bench.inventory.outcome(command.operation_id)
    assert failed.error.code is ProblemCode.CANCELLED
    assert failed.runs_on is RunsOn.SOURCE
    assert failed.observed.state is RUNNING
    assert bench.fake(second).get(partition.id) is None


async def test_a_cancellation_passes_a_busy_host(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2", executions_per_host=1, waiting_per_host=0)
    busy = partition_definition("fake", name="x !create-hangs")
    partition = await bench.run(first)
    command = bench.migration(first, second, partition, bandwidth_mib_s=1)
    await bench.inventory.send(command)
    await eventually(lambda: bench.fake(second).get(partition.id))
    await bench.inventory.send(bench.command(ExecuteCreatePartition, first, busy, start=False))
    await bench.inventory.send(bench.cancel(first, command.operation_id))
    failed = await bench.inventory.outcome(command.operation_id)
    assert failed.error.code is ProblemCode.CANCELLED


async def test_a_cancellation_of_nothing_is_acknowledged(bench: Any) -> None:
    (view,) = await bench.ready()
    await bench.inventory.send(bench.cancel(view, new_id()))
    async with bench.server.jetstream() as js:

        async def empty() -> bool:
            return (await js.stream_info("EXECUTIONS")).state.messages == 0

        for _ in range(100):
            if await empty():
                return
            await bench.clock.sleep(0.05)
    pytest.fail("the cancellation is still there")


async def test_a_migration_cancelled_before_it_was_sent_does_not_begin(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first)
    command = bench.migration(first, second, partition)
    await bench.inventory.send(bench.cancel(first, command.operation_id))
    await bench.clock.sleep(0.3)
    failed = await bench.inventory.failure(command)
    assert (failed.error.code, failed.runs_on) == (ProblemCode.CANCELLED, RunsOn.SOURCE)


@pytest.mark.parametrize("side", list(RunsOn))
async def test_a_failed_migration_says_where_it_is(bench: Any, side: RunsOn) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first, name=f"x !migrate-ends-on={side}")
    failed = await bench.inventory.failure(bench.migration(first, second, partition))
    assert failed.runs_on is side
    if side is RunsOn.NEITHER:
        assert failed.observed is None
    else:
        assert failed.observed is not None


async def test_after_a_failed_migration_both_hosts_are_told_whole(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    await bench.inventory.until(lambda: len(bench.inventory.heard(HostObserved)) == 2)
    partition = await bench.run(first, name="x !migrate-ends-on=unknown")
    failed = await bench.inventory.failure(bench.migration(first, second, partition))

    def told_since() -> set[UUID]:
        return {told.host_id for told in bench.inventory.heard(HostObserved) if told.observed_at >= failed.ended_at}

    await bench.inventory.until(lambda: told_since() == {first.id, second.id})


async def test_a_migration_that_is_timed_out_is_looked_for(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2", migrate_timeout=0.5)
    partition = await bench.run(first)
    failed = await bench.inventory.failure(bench.migration(first, second, partition, bandwidth_mib_s=1))
    assert failed.error.code is ProblemCode.TIMED_OUT
    assert failed.runs_on is RunsOn.SOURCE


async def test_only_so_many_migrations_at_once(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2", migrations_per_host=1, waiting_per_host=1)
    commands = []
    for _ in range(4):
        partition = await bench.run(first)
        commands.append(bench.migration(first, second, partition))
    for command in commands:
        await bench.inventory.send(command)
    most = 0
    for _ in range(200):
        incoming = [p for p in bench.fake(second).observe() if p.state is ObservedState.INCOMING]
        most = max(most, len(incoming))
        if len(bench.fake(second).observe()) == 4 and not incoming:
            break
        await bench.clock.sleep(0.01)
    for command in commands:
        await bench.inventory.outcome(command.operation_id)
    assert most == 1
    assert len(bench.fake(second).observe()) == 4


# ------------------------------------------------------------------------------------------------ hosts


async def test_enrolling_a_host_reads_its_facts(bench: Any) -> None:
    await bench.executor()
    connection = HostConnection(uri="fake://new?cpus=7")
    outcome = await bench.inventory.success(_on_host(ExecuteEnrolHost, new_id(), connection))
    assert outcome.facts.cpus == 7
    assert outcome.result["ready"] is True


async def test_enrolling_an_unprepared_host_fails_and_preparing_it_needs_no_connection(bench: Any) -> None:
    await bench.executor()
    host_id, connection = new_id(), HostConnection(uri="fake://plain?prepared=no")
    failed = await bench.inventory.failure(_on_host(ExecuteEnrolHost, host_id, connection))
    assert failed.error.code is ProblemCode.DRIVER_FAILED
    outcome = await bench.inventory.success(_on_host(ExecutePrepareHost, host_id, connection))
    assert [change["what"] for change in outcome.result["changes"]] == ["package fake-hypervisor"]
    assert outcome.facts is not None
    outcome = await bench.inventory.success(_on_host(ExecutePrepareHost, host_id, connection))
    assert outcome.result["changes"] == []
    await bench.inventory.success(_on_host(ExecuteEnrolHost, host_id, connection))


async def test_enrolling_what_does_not_answer_fails_after_a_while(bench: Any) -> None:
    await bench.executor()
    connection = HostConnection(uri="fake://dark?unreachable=yes")
    failed = await bench.inventory.failure(_on_host(ExecuteEnrolHost, new_id(), connection))
    assert failed.error.code is ProblemCode.HOST_FAILED


async def test_a_command_for_an_unknown_host_fails_after_a_while(bench: Any) -> None:
    await bench.ready()
    unknown = bench.host("elsewhere")
    bench.inventory.hosts.pop(unknown.id)
    partition = partition_definition("fake")
    failed = await bench.inventory.failure(bench.command(ExecuteCreatePartition, unknown, partition, start=True))
    assert failed.error.code is ProblemCode.HOST_FAILED
    assert failed.error.details["observed"] == "unreadable"


async def test_a_command_waits_for_a_host_that_is_just_being_connected(bench: Any) -> None:
    view = bench.host("h1")
    bench.fake(view).lose()
    await bench.executor(unreachable_limit=5)
    command = bench.command(ExecuteCreatePartition, view, partition_definition("fake"), start=True)
    await bench.inventory.send(command)
    await bench.clock.sleep(0.5)
    bench.fake(view).find()
    outcome = await bench.inventory.outcome(command.operation_id)
    assert outcome.observed.state is RUNNING


async def test_a_hung_host_does_not_hold_up_the_others(bench: Any) -> None:
    hung, good = await bench.ready(
        "hung", "good", concurrency=32, executions_per_host=2, waiting_per_host=2, default_timeout=60
    )
    bench.fake(hung).hang("create")
    stuck = [bench.command(ExecuteCreatePartition, hung, partition_definition("fake"), start=False) for _ in range(100)]
    for command in stuck:
        await bench.inventory.send(command)
    await bench.clock.sleep(0.2)
    began = bench.clock.monotonic()
    for _ in range(10):
        await bench.run(good)
    assert bench.clock.monotonic() - began < 2
    bench.fake(hung).recover()
    for command in stuck:
        await bench.inventory.outcome(command.operation_id, 20)
    assert len(bench.fake(hung).observe()) == 100


async def test_different_hosts_at_the_same_time(bench: Any) -> None:
    views = await bench.ready(*(f"h{number}" for number in range(20)))
    began = bench.clock.monotonic()
    await asyncio.gather(*(bench.run(view, name=f"n{i} !create-slow=0.5") for i, view in enumerate(views)))
    assert bench.clock.monotonic() - began < 3


def _on_host(model: type, host_id: UUID, connection: HostConnection) -> Any:
    return model(
        operation_id=new_id(), host_id=host_id, technology="fake", host_name="some host", connection=connection
    )
