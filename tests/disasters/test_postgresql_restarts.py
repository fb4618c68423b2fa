"""PostgreSQL restarts while commands are being carried out, orderly and by kill -9: each ends well, and once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from support.control_plane import ControlPlane
from support.invariants import broken_invariants

from openqrm.contracts.dead_letter import ListDeadLetters
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.message import Command
from openqrm.contracts.network import ListNetworks
from openqrm.contracts.operation import OperationAccepted
from openqrm.contracts.partition import CreatePartition, PausePartition, RebootPartition, StartPartition

PARTITIONS = 10
SLOW = 1.0
"""Seconds that a start takes, so that reports come while the database is away."""


async def _orderly(plane: ControlPlane) -> None:
    await plane.postgres.stop()


async def _killed(plane: ControlPlane) -> None:
    await plane.kill_postgres()


@pytest.mark.parametrize("end", [_orderly, _killed], ids=["orderly", "killed"])
async def test_restart_in_the_middle(plane: ControlPlane, end: Callable[[ControlPlane], Awaitable[None]]) -> None:
    word = end.__name__
    host = await plane.ready_host(f"host {word}", "cpus=64&memory_mib=262144")
    names = [f"{word} {number} !start-slow={SLOW}" for number in range(PARTITIONS)]
    await asyncio.gather(*(plane.make(name, host=host.name) for name in names))
    seen = len(plane.events)
    starts: list[Command] = [StartPartition(partition=name) for name in names]
    queued: list[Command] = [PausePartition(partition=name) for name in names[:5]]
    made: list[Command] = [CreatePartition(name=f"new {word} {number}", technology="fake", memory_mib=64)
                           for number in range(5)]  # fmt: skip
    for command in [*starts, *queued]:
        await plane.client.publish(command)
    await plane.event("operation.accepted", after=seen)
    await end(plane)
    for command in made:
        await plane.client.publish(command)  # taken by the bus meanwhile
    with pytest.raises(TemporaryError, match="database cannot do this right now"):
        await plane.ask(ListNetworks())
    await plane.clock.sleep(SLOW)  # by now the executor has reported
    await plane.postgres.start()
    ended = [await plane.end_of(command.operation_id) for command in [*starts, *queued, *made]]
    assert Counter(operation.state for operation in ended) == {"succeeded": len(ended)}, ended
    accepted = Counter(e.operation.id for _, e in plane.events[seen:] if isinstance(e, OperationAccepted))
    assert set(accepted.values()) == {1}
    found = plane.fake(host).read().partitions.values()
    assert {partition.starts for partition in found if partition.name in names} == {1}
    assert (await plane.ask(ListDeadLetters())).items == ()
    assert (await plane.run(RebootPartition(partition=names[-1], hard=True))).state == "succeeded"
    assert await broken_invariants(plane) == []
    assert plane.deadlocks() == []
