"""Each query that is not tested with its noun's commands: one by id or name, lists with filters, sorts and pages."""

import pytest

from openqrm.contracts.errors import PermanentError
from openqrm.contracts.host import GetHost, HostSort, ListHosts, MaintainHost
from openqrm.contracts.ids import new_id
from openqrm.contracts.operation import GetOperation, ListOperations
from openqrm.contracts.paging import Paging
from openqrm.contracts.partition import (
    DeletePartition,
    GetPartition,
    GetPlacement,
    ListPartitions,
    ListStrangers,
    MigratePartition,
    PartitionSort,
)
from openqrm.contracts.placement import ListPlacements, PlacedPartition
from openqrm.contracts.resource import GetResource, ListResources
from openqrm.inventory.views import paging


async def walk(plane, query, limit: int = 2, **paging):
    """Every item of a list, page by page."""
    found, cursor = [], None
    while True:
        page = await plane.ask(query.model_copy(update={"paging": Paging(limit=limit, cursor=cursor, **paging)}))
        assert len(page.items) <= limit
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found


@pytest.fixture(scope="module")
async def five(running):
    """Five partitions of different sizes on one host, two of them running, named listed 0 to 4."""
    host = await running.ready_host("host of lists")
    for number in range(5):
        await running.make(
            f"listed {number}",
            host=host.name,
            memory_mib=100 + 10 * ((number * 3) % 5),
            vcpus=1 + number % 2,
            tags=("odd",) if number % 2 else ("even", "100%_"),
            start=number >= 3,
        )
    return host


async def test_get_partition(plane, five):
    by_name = await plane.ask(GetPartition(partition="listed 0"))
    assert await plane.ask(GetPartition(partition=str(by_name.id))) == by_name
    assert await plane.ask(GetPartition(partition=str(by_name.id).upper())) == by_name
    for nothing in ("listed 9", str(new_id()), "☃" * 200, "' OR 1=1 --", "%"):
        with pytest.raises(PermanentError, match="no partition"):
            await plane.ask(GetPartition(partition=nothing))


async def test_a_query_with_a_character_that_no_text_has(plane):
    with pytest.raises(PermanentError, match="cannot be stored"):
        await plane.ask(GetPartition(partition="a\0b"))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("sort", "key"),
    [
        (PartitionSort.NAME, "name"),
        (PartitionSort.CREATED_AT, "created_at"),
        (PartitionSort.STATE, "state"),
        (PartitionSort.MEMORY, "memory_mib"),
        (PartitionSort.VCPUS, "vcpus"),
    ],
)
async def test_list_partitions_sorted(plane, five, sort, key, descending):
    query = ListPartitions(host=five.name, sort=sort)
    found = await walk(plane, query, descending=descending)
    assert len(found) == len({view.id for view in found}) == 5
    values = [getattr(view, key) for view in found]
    assert values == sorted(values, reverse=descending)


@pytest.mark.parametrize(
    ("wish", "numbers"),
    [
        ({"state": "running"}, [3, 4]),
        ({"state": "stopped"}, [0, 1, 2]),
        ({"state": "deleted"}, []),
        ({"tag": "odd"}, [1, 3]),
        ({"tag": "100%_"}, [0, 2, 4]),
        ({"tag": "100%"}, []),
        ({"technology": "fake"}, [0, 1, 2, 3, 4]),
        ({"technology": "xen"}, []),
        ({"name_contains": "TED 3"}, [3]),
        ({"name_contains": "%"}, []),
        ({"name_contains": "_"}, []),
        ({"name_contains": "\\"}, []),
        ({"tag": "even", "state": "running", "name_contains": "listed"}, [4]),
    ],
)
async def test_list_partitions_filtered(plane, five, wish, numbers):
    found = await walk(plane, ListPartitions(host=five.name, **wish))
    assert [view.name for view in found] == [f"listed {number}" for number in numbers]


async def test_list_partitions_of_a_host_that_is_none(plane):
    with pytest.raises(PermanentError, match="no host"):
        await plane.ask(ListPartitions(host="nowhere"))


async def test_list_partitions_does_not_mix_up_cursors(plane, five):
    page = await plane.ask(ListPartitions(host=five.name, paging=Paging(limit=2)))
    with pytest.raises(PermanentError, match="Begin again"):
        await plane.ask(
            ListPartitions(host=five.name, sort=PartitionSort.STATE, paging=Paging(limit=2, cursor=page.next_cursor))
        )


async def test_list_partitions_ends_a_page_that_no_message_could_carry(plane, name, host, monkeypatch):
    """500 partitions with long names and tags are more than 1 MiB: the page is shorter, and nothing is lost."""
    tags = tuple(f"{number:02}{'☃' * 62}" for number in range(64))
    for number in range(3):
        await plane.make(f"{name} {number}", host=host.name, tags=tags)
    monkeypatch.setattr(paging, "LARGEST_PAGE_BYTES", 20_000)
    found = await walk(plane, ListPartitions(host=host.name), limit=500)
    first = await plane.ask(ListPartitions(host=host.name, paging=Paging(limit=500)))
    assert len(found) == 3
    assert len(first.items) == 1


async def test_get_placement(plane, name, host, other):
    view = await plane.make(name, host=host.name)
    placement = await plane.ask(GetPlacement(partition_id=view.id))
    assert (placement.epoch, placement.host_id, placement.target_host_id) == (1, host.id, None)
    await plane.run(MigratePartition(partition=name, host=other.name))
    placement = await plane.ask(GetPlacement(partition_id=view.id))
    assert (placement.epoch, placement.host_id) == (2, other.id)
    with pytest.raises(PermanentError, match="no partition"):
        await plane.ask(GetPlacement(partition_id=new_id()))


async def test_list_placements(plane, name, host, other):
    made = {(await plane.make(f"{name} {number}", host=host.name, memory_mib=64 + number)).id for number in range(3)}
    await plane.run(MigratePartition(partition=f"{name} 1", host=other.name))
    found, after = {}, None
    while True:
        page = await plane.ask(ListPlacements(after=after, limit=2))
        assert len(page.items) <= 2
        found |= {item.id: item for item in page.items}
        if page.is_last:
            break
        after = page.items[-1].id
    for partition_id in made:
        view = (await plane.partition(str(partition_id))).model_dump()
        assert found[partition_id].model_dump() == {field: view[field] for field in PlacedPartition.model_fields}
    await plane.run(DeletePartition(partition=f"{name} 1"))
    left = (await plane.ask(ListPlacements())).items
    assert len(made & {item.id for item in left}) == 2


async def test_list_strangers(plane, host, other):
    ids = {plane.fake(host).add_stranger(f"stranger {number}", running=False) for number in range(3)}
    with plane.fake(other).change() as content:  # the same partition is seen on two hosts
        twin = plane.fake(host).get(min(ids)).model_copy(deep=True)
        content.partitions[twin.id] = twin
    plane.fake(other).tell(twin.id, "made by hand")

    async def seen() -> bool:
        both = await walk(plane, ListStrangers(), limit=1)
        return len([s for s in both if s.observed.id in ids]) == 4

    await plane.until(seen)
    found = await walk(plane, ListStrangers(host=host.name))
    assert {stranger.observed.id for stranger in found} == ids
    assert found[0].host_name == host.name
    with pytest.raises(PermanentError, match="no host"):
        await plane.ask(ListStrangers(host="nowhere"))


async def test_get_host(plane, host):
    by_name = await plane.ask(GetHost(host=host.name))
    by_id = await plane.ask(GetHost(host=str(host.id)))
    assert by_id.id == by_name.id == host.id
    for nothing in ("no host", str(new_id())):
        with pytest.raises(PermanentError, match="There is no host"):
            await plane.ask(GetHost(host=nothing))


@pytest.mark.parametrize("sort", HostSort)
async def test_list_hosts(plane, name, sort):
    hosts = [await plane.ready_host(f"{name} {number}", tags=(name,)) for number in range(3)]
    await plane.run(MaintainHost(host=hosts[1].name))
    found = await walk(plane, ListHosts(tag=name, sort=sort))
    values = [getattr(view, sort.value) for view in found]
    assert values == sorted(values)
    assert {view.id for view in found} == {host.id for host in hosts}
    ready = await walk(plane, ListHosts(tag=name, state="ready", technology="fake", name_contains=name.upper()))
    assert {view.id for view in ready} == {hosts[0].id, hosts[2].id}
    assert await walk(plane, ListHosts(tag=name, state="removed")) == []


async def test_get_resource(plane, name, host):
    view = await plane.make(name, host=host.name)
    partition = await plane.ask(GetResource(resource=name))
    assert (partition.id, partition.kind, partition.is_host, partition.memory_mib) == (view.id, "partition", False, 256)
    server = await plane.ask(GetResource(resource=str(host.id)))
    assert (server.name, server.kind, server.is_host, server.cpus) == (host.name, "physical", True, 8)
    await plane.make(host.name, host=host.name)
    with pytest.raises(PermanentError, match="Use the id"):
        await plane.ask(GetResource(resource=host.name))
    with pytest.raises(PermanentError, match="no resource"):
        await plane.ask(GetResource(resource="nothing"))


async def test_list_resources(plane, name, host):
    await plane.make(name, host=host.name, tags=(name,))
    both = await walk(plane, ListResources(name_contains=name))
    assert {(resource.name, resource.kind.value) for resource in both} == {
        (host.name, "physical"),
        (name, "partition"),
    }
    assert [r.name for r in await walk(plane, ListResources(name_contains=name, kind="physical"))] == [host.name]
    assert [r.name for r in await walk(plane, ListResources(tag=name))] == [name]


async def test_get_operation(plane, name, host):
    ended = await plane.run(MaintainHost(host=host.name, requested_by="me"))
    view = await plane.ask(GetOperation(operation_id=ended.id))
    told = await plane.event("operation.succeeded", operation=view)
    assert told
    assert (view.verb, view.target_id, view.target_name, view.requested_by, view.progress) == (
        "host.maintain",
        host.id,
        host.name,
        "me",
        100,
    )
    assert view.trace_id
    with pytest.raises(PermanentError, match="no operation"):
        await plane.ask(GetOperation(operation_id=new_id()))


async def test_list_operations(plane, name, host):
    ids = [(await plane.run(MaintainHost(host=host.name, operation_id=new_id()))).id for _ in range(5)]
    found = await walk(plane, ListOperations(target_id=host.id))
    assert [operation.id for operation in found][1:] == ids, "after its enrolment, in the order of time"
    newest = await plane.ask(ListOperations(target_id=host.id))
    assert newest.items[0].id == ids[-1]
    rejected = await walk(plane, ListOperations(target_id=host.id, state="rejected", verb="host.maintain"))
    assert [operation.id for operation in rejected] == ids[1:]
    assert await walk(plane, ListOperations(target_id=host.id, verb="host.remove")) == []
