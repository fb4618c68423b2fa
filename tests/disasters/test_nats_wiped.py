"""NATS comes back without its store, or with an old copy: noticed, told, and nothing waits or is lost in silence."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.bus.streams import EVENTS, provision
from openqrm.contracts.bus import BusLost
from openqrm.contracts.errors import NotFoundError, OpenQrmError, ProblemCode, TemporaryError
from openqrm.contracts.host import HostView
from openqrm.contracts.network import ListNetworks
from openqrm.contracts.operation import GetOperation, OperationView
from openqrm.contracts.partition import CreatePartition, MigratePartition, PausePartition, StartPartition

SLOW = 1.5
"""Seconds; an executor of these tests gives a verb 3."""


@pytest.fixture(scope="module")
async def hosts(plane: ControlPlane) -> tuple[HostView, HostView]:
    """Two large ones."""
    return await plane.ready_host("n1"), await plane.ready_host("n2")


def _system(*command: str) -> None:
    subprocess.run(command, check=True)


def _store(plane: ControlPlane) -> Path:
    return plane.nats._folder / "jetstream"


async def _wipe(plane: ControlPlane) -> None:
    """NATS dies, its store is gone, and it starts again with nothing."""
    await plane.kill_nats()
    for folder in _store(plane).iterdir():
        shutil.rmtree(folder)
    await plane.nats.start()


async def _number(plane: ControlPlane, question: str) -> int:
    """What the database answers."""
    async with plane.inventory.inventory.database.transaction() as connection:
        return int((await connection.execute(text(question))).scalar_one())


async def _answers(plane: ControlPlane) -> bool:
    try:
        await plane.ask(ListNetworks())
    except TemporaryError:
        return False
    return True


async def _make_streams(plane: ControlPlane) -> None:
    """What the unit openqrm-streams does, and the embedded start."""
    provisioner = plane.bus("provisioner")
    await provisioner.connect()
    await provision(provisioner.js, ["fake"])
    await provisioner.stop()


async def _last(plane: ControlPlane) -> int:
    return (await plane.client.stream_state(EVENTS)).last


async def _is_noticed(plane: ControlPlane, seen: int) -> BusLost:
    told = await plane.event("bus.lost", after=seen)
    assert isinstance(told, BusLost)
    return told


async def _ended(plane: ControlPlane, operation_id: UUID) -> OperationView:
    """By asking: the events of its end may be among those that are gone."""
    found: list[OperationView] = []

    async def has_ended() -> bool:
        try:
            found[:] = [await plane.ask(GetOperation(operation_id=operation_id))]
        except TemporaryError:
            return False
        return found[0].ended_at is not None

    await plane.until(has_ended)
    return found[0]


def _failed_for_it(ended: OperationView) -> None:
    assert ended.state == "failed", ended
    assert ended.error is not None
    assert ended.error.code is ProblemCode.UNAVAILABLE
    assert "NATS lost" in ended.error.message


async def _rests(plane: ControlPlane, name: str, *states: str) -> None:
    """The partition's host was seen, and nothing is in doubt."""

    async def rests() -> bool:
        try:
            found = await plane.partition(name)
        except TemporaryError:
            return False
        return found.operation_id is None and found.target_host_id is None and found.state in states

    await plane.until(rests)


async def _whole(plane: ControlPlane) -> None:
    """Everything that must hold, holds, but for the gaps in the events, which were told."""
    assert [broken for broken in await broken_invariants(plane) if " has revision " not in broken] == []


async def test_wiped_in_the_middle_of_it(plane: ControlPlane, hosts: tuple[HostView, HostView]) -> None:
    await plane.make(f"starting !start-slow={SLOW}", host="n1")
    await plane.make(f"moving !migrate-slow={SLOW}", host="n1", start=True)
    before = await _last(plane)
    start = StartPartition(partition=f"starting !start-slow={SLOW}")
    queued = PausePartition(partition=f"starting !start-slow={SLOW}")
    move = MigratePartition(partition=f"moving !migrate-slow={SLOW}", host="n2")
    create = CreatePartition(name=f"new !create-slow={SLOW}", technology="fake", memory_mib=64)
    for command in (start, queued, move, create):
        await plane.client.publish(command)
        await plane.operation(command.operation_id, "running", "queued")
    await plane.event("partition.changed", reason="migrate")
    seen = len(plane.events)
    await _wipe(plane)

    async def is_told() -> bool:
        return "provisioning" in (plane.inventory._bus.trouble or "") and "EVENTS" in (plane.client.trouble or "")

    await plane.until(is_told)
    assert seen == len(plane.events), "nobody has made streams yet"
    await _make_streams(plane)
    told = await _is_noticed(plane, seen)
    assert told.streams == ("COMMANDS", "EXECUTIONS", "EVENTS")
    assert told.operations_failed >= 1
    states = {command.operation_id: await _ended(plane, command.operation_id) for command in (start, move, create)}
    for ended in states.values():  # what an executor could still report has succeeded, all else is told
        if ended.state != "succeeded":
            _failed_for_it(ended)
    assert (await _ended(plane, queued.operation_id)).ended_at is not None
    await _rests(plane, f"starting !start-slow={SLOW}", "running", "paused", "stopped")
    await _rests(plane, f"moving !migrate-slow={SLOW}", "running")
    assert await _last(plane) > before
    assert plane.world.ran_twice == []
    await plane.make("afterwards", start=True)
    await _whole(plane)
    assert plane.inventory._bus.trouble is None


async def test_what_was_waiting_is_told_or_can_be_sent_again(
    plane: ControlPlane, hosts: tuple[HostView, HostView]
) -> None:
    """Commands that inventory had not taken, and a routed command that no executor had."""
    made = await plane.make("waiting", host="n1")
    await plane.executor.stop()
    start = StartPartition(partition="waiting")
    await plane.client.publish(start)
    await plane.operation(start.operation_id, "running")

    async def is_published() -> bool:
        return await _number(plane, "SELECT count(*) FROM outbox") == 0

    await plane.until(is_published)
    await plane.inventory.stop()
    lost = CreatePartition(name="never heard of", technology="fake", memory_mib=64)
    await plane.client.publish(lost)
    seen = len(plane.events)
    await _wipe(plane)
    await _make_streams(plane)
    await plane.start_inventory()
    assert (await _is_noticed(plane, seen)).operations_failed == 1
    _failed_for_it(await _ended(plane, start.operation_id))
    assert (await plane.partition("waiting")).state == "unknown", "until its host is seen"
    with pytest.raises(OpenQrmError) as refused:
        await plane.ask(GetOperation(operation_id=lost.operation_id))
    assert isinstance(refused.value, NotFoundError) or refused.value.code is ProblemCode.NOT_FOUND
    await plane.start_executor()
    await _rests(plane, "waiting", "stopped")
    assert (await plane.run(lost)).state == "succeeded", "sent again with the same id"
    assert (await plane.run(StartPartition(partition="waiting"))).state == "succeeded"
    assert [host.name for host in plane.world.runs_on(made.id)] == [plane.fake(hosts[0]).name]
    await _whole(plane)


async def test_an_old_copy_of_the_store_is_noticed(
    plane: ControlPlane, hosts: tuple[HostView, HostView], tmp_path: Path
) -> None:
    """The streams are the same then, and have gone back."""
    await plane.kill_nats()
    _system("cp", "-a", str(_store(plane)), str(tmp_path / "copy"))
    await plane.nats.start()
    await plane.until(lambda: _answers(plane))
    await asyncio.gather(*(plane.make(f"since then {number}") for number in range(3)))

    async def is_remembered() -> bool:
        return await _number(plane, "SELECT last_sequence FROM streams WHERE name = 'EVENTS'") >= await _last(plane)

    await plane.until(is_remembered)
    seen = len(plane.events)
    await plane.kill_nats()
    shutil.rmtree(_store(plane))
    _system("cp", "-a", str(tmp_path / "copy"), str(_store(plane)))
    await plane.nats.start()
    told = await _is_noticed(plane, seen)
    assert "EVENTS" in told.streams
    await plane.until(lambda: _answers(plane))
    await plane.make("after the old copy", start=True)
    await _whole(plane)
