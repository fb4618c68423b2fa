"""NATS and PostgreSQL killed with -9 in the middle: what was acknowledged is carried out, once."""

import asyncio
import os
import signal
from contextlib import suppress

from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.paging import Paging
from openqrm.contracts.partition import CreatePartition, ListPartitions, PausePartition

PARTITIONS = 20


def _creations(word: str) -> list[CreatePartition]:
    return [
        CreatePartition(name=f"{word} {number}", technology="fake", memory_mib=64, start=True)
        for number in range(PARTITIONS)
    ]


async def _all_run(plane: ControlPlane, word: str) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(TemporaryError):  # not everybody is connected again at once
                page = await plane.ask(ListPartitions(name_contains=word, paging=Paging(limit=500)))
                if len(page.items) == PARTITIONS and all(partition.state == "running" for partition in page.items):
                    return
            await plane.clock.sleep(0.2)


async def test_postgresql_killed_in_the_middle(plane: ControlPlane) -> None:
    await plane.ready_host("big one", "cpus=64&memory_mib=262144")
    commands = _creations("database")
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    os.kill(plane.postgres.pid, signal.SIGKILL)
    await plane.postgres.stop()
    await plane.postgres.start()
    await _all_run(plane, "database")
    assert await broken_invariants(plane) == []


async def test_nats_killed_in_the_middle(plane: ControlPlane) -> None:
    commands = _creations("bus")
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    os.kill(plane.nats.pid, signal.SIGKILL)
    await plane.nats.stop()
    await plane.nats.start()
    await _all_run(plane, "bus")
    assert await broken_invariants(plane) == []


async def test_commands_wait_for_a_service_that_is_away(plane: ControlPlane) -> None:
    await plane.stop_services()
    commands = [PausePartition(partition=f"bus {number}") for number in range(PARTITIONS)]
    for command in commands:
        await plane.client.publish(command)
    await plane.start_services()
    for command in commands:
        assert (await plane.end_of(command.operation_id)).state == "succeeded"
    assert await broken_invariants(plane) == []
