"""A command that a newer placement has overtaken is refused."""

from typing import Any

import pytest

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.execution import ExecuteDeletePartition, ExecuteStartPartition, ExecuteStopPartition
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import GetPlacement, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.testkit.definitions import partition_definition

SLOW = "x !start-slow=1.2"
"""Longer than the ack wait that these tests set: the message is delivered a second time."""


async def _stopped(bench: Any, view: Any, **changes: Any) -> PartitionDefinition:
    """A partition that is defined on a host, put there without a command."""
    partition = partition_definition("fake", **changes)
    driver = bench.executors[0]._driver
    supervisor = bench.executors[0].hosts.get(view.id)
    await driver.create(supervisor.host, partition, _work())
    return partition


def _work() -> Any:
    from openqrm.driver.capabilities import Work

    return Work(new_id())


def _asked(bench: Any) -> int:
    return sum(isinstance(query, GetPlacement) for query in bench.inventory.asked)


@pytest.mark.parametrize("model", [ExecuteStartPartition, ExecuteStopPartition, ExecuteDeletePartition])
async def test_a_host_that_has_a_newer_epoch_refuses(bench: Any, model: type) -> None:
    (view,) = await bench.ready()
    newer = await _stopped(bench, view, epoch=5)
    older = newer.model_copy(update={"epoch": 4})
    failed = await bench.inventory.failure(bench.command(model, view, older))
    assert failed.error.code is ProblemCode.STALE_EPOCH
    assert "epoch 5" in failed.error.message
    assert failed.observed.state is ObservedState.STOPPED
    assert failed.observed.epoch == 5


async def test_a_target_that_has_a_newer_epoch_refuses(bench: Any) -> None:
    first, second = await bench.ready("h1", "h2")
    partition = await bench.run(first)
    await _stopped(bench, second, id=partition.id, epoch=9)
    failed = await bench.inventory.failure(bench.migration(first, second, partition))
    assert failed.error.code is ProblemCode.STALE_EPOCH


async def test_the_same_epoch_and_a_newer_command_are_carried_out(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = await _stopped(bench, view)
    await bench.inventory.success(bench.command(ExecuteStartPartition, view, partition))
    newer = partition.model_copy(update={"epoch": 3})
    outcome = await bench.inventory.success(bench.command(ExecuteStartPartition, view, newer))
    assert outcome.observed.epoch == 3


async def test_a_fresh_first_delivery_asks_nobody(bench: Any) -> None:
    (view,) = await bench.ready()
    partition = await _stopped(bench, view)
    await bench.inventory.success(bench.command(ExecuteStartPartition, view, partition))
    assert _asked(bench) == 0


@pytest.mark.parametrize("what", ["newer epoch", "another host", "nowhere", "unknown"])
async def test_a_command_that_came_twice_is_checked_with_inventory(bench: Any, what: str) -> None:
    (view,) = await bench.ready()
    partition = await _stopped(bench, view)
    command = bench.command(ExecuteStartPartition, view, partition)
    host = bench.fake(view)
    host.lose()  # the first delivery finds the host disconnected and is set aside
    await bench.inventory.until(lambda: "HostDisconnected" in str([type(e) for e in bench.inventory.events]))
    await bench.inventory.send(command)
    await bench.clock.sleep(0.15)
    match what:
        case "newer epoch":
            bench.inventory.place(partition.id, 2, view.id)
        case "another host":
            bench.inventory.place(partition.id, 1, new_id())
        case "nowhere":
            bench.inventory.place(partition.id, 1, None)
        case "unknown":
            del bench.inventory.placements[partition.id]
    host.find()
    failed = await bench.inventory.outcome(command.operation_id)
    assert failed.error.code is ProblemCode.STALE_EPOCH
    assert failed.observed.state is ObservedState.STOPPED
    assert _asked(bench) == 1


async def test_stopping_is_not_checked_with_inventory(bench: Any) -> None:
    (view,) = await bench.ready(unreachable_limit=5)
    partition = await _stopped(bench, view)
    bench.fake(view).lose()
    await bench.inventory.until(lambda: "HostDisconnected" in str([type(e) for e in bench.inventory.events]))
    command = bench.command(ExecuteStopPartition, view, partition)
    await bench.inventory.send(command)
    await bench.clock.sleep(0.15)
    bench.fake(view).find()
    await bench.inventory.outcome(command.operation_id)
    assert _asked(bench) == 0


async def test_without_inventory_nothing_is_started(bench: Any) -> None:
    (view,) = await bench.ready(unreachable_limit=5)
    partition = await _stopped(bench, view)
    host = bench.fake(view)
    host.lose()
    await bench.inventory.until(lambda: "HostDisconnected" in str([type(e) for e in bench.inventory.events]))
    command = bench.command(ExecuteStartPartition, view, partition)
    await bench.inventory.send(command)
    await bench.clock.sleep(0.15)
    await bench.inventory.bus.stop()
    host.find()
    await bench.clock.sleep(1.0)
    assert host.get(partition.id).state is ObservedState.STOPPED
    from openqrm.testkit.inventory import InventoryStub

    stub = InventoryStub(bench.server, bench.clock)
    stub.hosts, stub.placements = bench.inventory.hosts, bench.inventory.placements
    bench.inventory = stub
    await stub.start()
    outcome = await stub.outcome(command.operation_id, 15)
    assert outcome.observed.state is ObservedState.RUNNING
