"""Placement: reserved in inventory's transaction, retried with fresh data, waiting for capacity, told why not."""

import asyncio

from openqrm.contracts.errors import ProblemCode, TemporaryError
from openqrm.contracts.host import ChangeHost, MaintainHost
from openqrm.contracts.ids import new_id
from openqrm.contracts.mac import AllocateMac
from openqrm.contracts.partition import (
    CreatePartition,
    DeletePartition,
    MigratePartition,
    NicSpec,
    ResizePartition,
)
from openqrm.contracts.placement import PlacementProposal
from openqrm.inventory.app import BusScheduler

SMALL = "cpus=4&memory_mib=4608"  # 4096 MiB are left for partitions


def wish(name: str, tag: str, **changes) -> CreatePartition:
    fields = {"name": name, "technology": "fake", "memory_mib": 2048, "host_tags": (tag,)}
    return CreatePartition(**fields | changes)


async def test_no_fit_tells_the_counts_per_reason(plane, name):
    for number in range(3):
        await plane.ready_host(f"{name} {number}", SMALL, tags=(name,))
    await plane.run(MaintainHost(host=f"{name} 0"))
    ended = await plane.run(wish(name, name, memory_mib=8192, vcpus=100))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.NO_FIT)
    refused_by = ended.error.details["refused_by"]
    considered = int(ended.error.message.split()[2])
    assert sum(refused_by.values()) == considered, "each host counts once, for the first reason against it"
    assert refused_by["state"] >= 1
    assert refused_by.get("memory", 0) + refused_by.get("cpu", 0) >= 2
    for reason, count in refused_by.items():
        assert f"{reason}: {count}" in ended.error.message
    await plane.event("partition.deleted", operation_id=ended.id)


async def test_it_waits_for_capacity_and_goes_on_when_some_appears(plane, name):
    host = await plane.ready_host(name, SMALL, tags=(name,))
    for number in range(2):
        await plane.make(f"{name} {number}", host=host.name, memory_mib=2048)
    first, second = wish(f"{name} a", name, wait_for_capacity=True), wish(f"{name} b", name, wait_for_capacity=True)
    for command in (first, second):
        await plane.client.publish(command)
        waiting = await plane.operation(command.operation_id, "waiting")
        assert "memory: 1" in waiting.step
        assert waiting.cancellable
    await plane.run(DeletePartition(partition=f"{name} 0"))
    assert (await plane.end_of(first.operation_id)).state == "succeeded", "the oldest comes first"
    await plane.run(ResizePartition(partition=f"{name} 1", memory_mib=64))
    assert (await plane.operation(second.operation_id, "waiting")).state == "waiting", "64 MiB too few are free"
    await plane.run(DeletePartition(partition=f"{name} 1"))
    assert (await plane.end_of(second.operation_id)).state == "succeeded"


async def test_many_at_once_never_take_more_than_there_is(plane, name):
    host = await plane.ready_host(name, SMALL, tags=(name,))
    commands = [wish(f"{name} {number}", name, memory_mib=1024) for number in range(12)]
    await asyncio.gather(*(plane.client.publish(command) for command in commands))
    ended = [await plane.end_of(command.operation_id) for command in commands]
    assert sorted(operation.state for operation in ended) == ["failed"] * 8 + ["succeeded"] * 4
    assert {operation.error.code for operation in ended if operation.error} == {ProblemCode.NO_FIT}
    assert (await plane.host(host.name)).memory_reserved_mib == 4096


class Stale:
    """A scheduler that does not see what was reserved in the last moment."""

    def __init__(self, real: BusScheduler, host_id) -> None:
        self.real, self.host_id, self.asked = real, host_id, []

    async def propose(self, request) -> PlacementProposal:
        self.asked.append(request.excluded_host_ids)
        proposal = await self.real.propose(request)
        if self.host_id in request.excluded_host_ids or len(self.asked) > 6:
            return proposal
        return proposal.model_copy(update={"host_id": self.host_id})


async def test_a_conflict_is_retried_with_fresh_data(plane, name, monkeypatch):
    full = await plane.ready_host(f"{name} full", SMALL, tags=(name,))
    await plane.make(f"{name} 0", host=full.name, memory_mib=4096)
    free = await plane.ready_host(f"{name} free", SMALL, tags=(name,))
    stale = Stale(plane.inventory.inventory.scheduler, full.id)
    monkeypatch.setattr(plane.inventory.inventory, "scheduler", stale)
    ended = await plane.run(wish(name, name))
    assert ended.state == "succeeded"
    assert (await plane.partition(name)).host_id == free.id
    assert stale.asked[1] == {full.id}, "the host that was lost is left out of the next try"


async def test_a_conflict_on_the_only_host_is_not_told_as_an_exclusion(plane, name, monkeypatch):
    full = await plane.ready_host(f"{name} full", SMALL, tags=(name,))
    await plane.make(f"{name} 0", host=full.name, memory_mib=4096)
    monkeypatch.setattr(plane.inventory.inventory, "scheduler", Stale(plane.inventory.inventory.scheduler, full.id))
    ended = await plane.run(wish(name, name))
    assert ended.state == "failed"
    assert ended.error.details["refused_by"]["memory"] == 1
    assert "exclusion" not in ended.error.details["refused_by"]


async def test_a_scheduler_that_is_away_is_waited_for(plane, name, host, monkeypatch):
    class Away:
        async def propose(self, request):
            raise TemporaryError("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(plane.inventory.inventory, "scheduler", Away())
        command = CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64)
        await plane.client.publish(command)
        await plane.operation(command.operation_id, "running")
        await plane.clock.sleep(0.5)
        assert plane.inventory.inventory.placement_waits == "nobody answers"
    assert (await plane.end_of(command.operation_id)).state == "succeeded"
    assert plane.inventory.inventory.placement_waits is None


async def test_what_can_never_be_placed_fails_instead_of_being_tried_for_ever(plane, name, host):
    """Found out after it was accepted: the technology, and with it the range of addresses, comes with the host."""
    taken = (await plane.ask(AllocateMac(technology="fake", request_id=new_id()))).mac
    ended = await plane.run(
        CreatePartition(
            name=name, technology="any", host=host.name, memory_mib=64, nics=(NicSpec(network="default", mac=taken),)
        )
    )
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.DUPLICATE)


async def test_an_unexpected_error_ends_the_operation(plane, name, host, monkeypatch):
    class Broken:
        async def propose(self, request):
            raise ZeroDivisionError

    monkeypatch.setattr(plane.inventory.inventory, "scheduler", Broken())
    ended = await plane.run(CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.INTERNAL)


async def test_nothing_is_placed_on_a_host_that_is_leaving(plane, name):
    """Maintenance and placement at the same time: whoever is second sees what the first one did."""
    host = await plane.ready_host(name, tags=(name,))
    away = await plane.ready_host(f"{name} away", tags=(f"{name} away",))
    await plane.run(ChangeHost(host=away.name, tags=(name,)))
    await plane.run(MaintainHost(host=away.name))
    commands = [wish(f"{name} {number}", name, memory_mib=64) for number in range(20)]
    drain = MaintainHost(host=host.name, evacuate=False)
    for number, command in enumerate(commands):
        await plane.client.publish(command)
        if number == 10:
            await plane.client.publish(drain)
    ended = [await plane.end_of(command.operation_id) for command in commands]
    on = (await plane.host(host.name)).partitions
    assert on == sum(operation.state == "succeeded" for operation in ended)
    maintained = await plane.event("host.maintained", operation_id=drain.operation_id)
    assert (await plane.host(host.name)).partitions >= maintained.host.partitions


async def test_migration_without_a_place_leaves_it_where_it_was(plane, name, host):
    await plane.make(name, host=host.name, start=True, host_tags=())
    lonely = MigratePartition(partition=name, host=host.name)
    assert (await plane.run(lonely)).state == "rejected"
    full = await plane.ready_host(f"{name} full", "cpus=1&memory_mib=1024")
    await plane.make(f"{name} 2", host=full.name, memory_mib=512)
    ended = await plane.run(MigratePartition(partition=name, host=full.name))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.NO_FIT)
    view = await plane.partition(name)
    assert (view.state, view.host_name, view.epoch) == ("running", host.name, 1)
