"""At least once: messages that come twice, replicas that die, a bus that is away."""

from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from openqrm.bus.streams import executor_durable
from openqrm.contracts.execution import ExecuteCreatePartition, ExecuteStartPartition
from openqrm.contracts.host import HostConnected
from openqrm.contracts.states import ObservedState
from openqrm.testkit.definitions import partition_definition

RUNNING = ObservedState.RUNNING


@pytest.fixture
async def quick_redelivery(server: Any) -> None:
    """A message that is not acknowledged comes again after one second."""
    durable = executor_durable("fake")
    async with server.jetstream() as js:
        await js.add_consumer(
            durable.stream,
            ConsumerConfig(
                name=durable.name,
                durable_name=durable.name,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=1.0,
                max_ack_pending=durable.max_ack_pending,
                filter_subjects=list(durable.subjects),
            ),
        )


async def _waiting(bench: Any) -> int:
    async with bench.server.jetstream() as js:
        return (await js.stream_info("EXECUTIONS")).state.messages


async def test_a_message_that_comes_again_while_it_is_carried_out(bench: Any, quick_redelivery: None) -> None:
    (view,) = await bench.ready()
    partition = partition_definition("fake", name="x !create-slow=1.2")
    command = bench.command(ExecuteCreatePartition, view, partition, start=True)
    await bench.inventory.send(command)
    await bench.inventory.until(lambda: len(bench.inventory.outcomes(command.operation_id)) >= 2)
    outcomes = bench.inventory.outcomes(command.operation_id)
    assert {type(outcome).__name__ for outcome in outcomes} == {"ExecutionSucceeded"}
    assert {outcome.observed.state for outcome in outcomes} == {RUNNING}
    assert bench.fake(view).get(partition.id).starts == 1, "carried out twice, started once"


async def test_a_message_sent_twice_is_carried_out_once(bench: Any) -> None:
    (view,) = await bench.ready()
    command = bench.command(ExecuteCreatePartition, view, partition_definition("fake"), start=True)
    await bench.inventory.send(command)
    await bench.inventory.success(command)
    await bench.clock.sleep(0.3)
    assert len(bench.inventory.outcomes(command.operation_id)) == 1
    assert await _waiting(bench) == 0


async def test_a_replica_that_stops_hands_its_work_to_another(bench: Any) -> None:
    (view,) = await bench.ready(drain_limit=0.2)
    partition = partition_definition("fake", name="x !create-hangs=1")
    command = bench.command(ExecuteCreatePartition, view, partition, start=True)
    await bench.inventory.send(command)
    await bench.clock.sleep(0.2)
    first = bench.executors[0]
    connected = len(bench.inventory.heard(HostConnected))
    await bench.executor()
    await bench.inventory.until(lambda: len(bench.inventory.heard(HostConnected)) > connected)
    await bench.stop(first)
    outcome = await bench.inventory.outcome(command.operation_id)
    assert outcome.observed.state is RUNNING
    assert len(bench.inventory.outcomes(command.operation_id)) == 1


async def test_stopping_waits_for_what_is_nearly_done(bench: Any) -> None:
    (view,) = await bench.ready(drain_limit=5)
    command = bench.command(
        ExecuteCreatePartition, view, partition_definition("fake", name="x !create-slow=0.5"), start=True
    )
    await bench.inventory.send(command)
    await bench.clock.sleep(0.2)
    await bench.stop(bench.executors[0])
    outcome = await bench.inventory.outcome(command.operation_id, 1)
    assert outcome.observed.state is RUNNING
    assert await _waiting(bench) == 0


async def test_a_bus_that_is_killed_meanwhile_loses_nothing(bench: Any, quick_redelivery: None) -> None:
    (view,) = await bench.ready()
    commands = [
        bench.command(
            ExecuteCreatePartition, view, partition_definition("fake", name=f"n{n} !create-slow=0.5"), start=True
        )
        for n in range(8)
    ]
    for command in commands:
        await bench.inventory.send(command)
    await bench.clock.sleep(0.2)
    await bench.server.kill()
    await bench.clock.sleep(0.5)
    await bench.server.start()
    for command in commands:
        outcome = await bench.inventory.outcome(command.operation_id, 25)
        assert outcome.observed.state is RUNNING
    assert {partition.state for partition in bench.fake(view).observe()} == {RUNNING}


async def test_commands_on_one_partition_keep_their_order(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = partition_definition("fake", name="x !create-slow=0.4")
    create = bench.command(ExecuteCreatePartition, view, partition, start=False)
    start = bench.command(ExecuteStartPartition, view, partition)
    await bench.inventory.send(create)
    await bench.inventory.send(start)
    await bench.inventory.outcome(start.operation_id)
    operations = [outcome.operation_id for outcome in bench.inventory.events if hasattr(outcome, "subject_verb")]
    assert operations == [create.operation_id, start.operation_id]
