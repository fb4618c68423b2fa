"""Building from inventory's lists."""

import gc
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.paging import Page
from openqrm.contracts.partition import PartitionEvent, PartitionView
from openqrm.contracts.placement import PlacedPartition, PlacementPage
from openqrm.contracts.technology import Capability, TechnologyList, TechnologyView
from openqrm.scheduler.builder import build
from openqrm.scheduler.reading import PlacementChanged

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Inventory:
    """Answers lists from memory, in pages, and remembers what it was asked."""

    def __init__(self, **lists):
        self.lists = lists
        self.asked = defaultdict(list)

    async def request(self, query, timeout=5.0):
        self.asked[query.subject].append(query)
        if query.subject == "technology.list":
            return TechnologyList(items=self.lists["technologies"])
        if query.subject == "placement.list":
            items = [item for item in self.lists["placement"] if query.after is None or item.id > query.after]
            return PlacementPage(items=items[:5], is_last=len(items) <= 5)
        items = self.lists[query.subject.split(".")[0]]
        start = int(query.paging.cursor or 0)
        end = start + query.paging.limit
        return Page[object].model_construct(
            items=tuple(items[start:end]), next_cursor=str(end) if end < len(items) else None
        )


@pytest.fixture
def inventory(make_host, make_partition, make_network, make_manifest):
    technologies = tuple(
        TechnologyView(
            name=name, title=name, available=bool(manifest), manifest=manifest, mac_range=None, macs_used=0, macs_free=0
        )
        for name, manifest in (("qemu", make_manifest("qemu", Capability.PAUSE)), ("xen", None))
    )
    return Inventory(
        host=[make_host(number) for number in range(1, 8)],
        placement=sorted((make_partition(number, number % 7 + 1) for number in range(23)), key=lambda each: each.id),
        network=[make_network(number) for number in range(3)],
        technologies=technologies,
    )


async def test_all_pages_are_read(inventory, projection):
    await build(inventory, projection, page_size=5)
    assert projection.cluster.hosts.count == 7
    assert projection.partitions == 23
    assert len(projection.cluster.networks) == 3
    assert projection.cluster.manifests.keys() == {"qemu"}
    assert [query.paging.cursor for query in inventory.asked["host.list"]] == [None, "5"]
    assert len(inventory.asked["placement.list"]) == 5


async def test_lists_are_sorted_by_what_does_not_change(inventory, projection):
    await build(inventory, projection, page_size=500)
    assert {query.sort.value for query in inventory.asked["host.list"]} == {"created_at"}


async def test_an_inventory_that_is_away_is_a_temporary_error(projection):
    class Away:
        async def request(self, query, timeout=5.0):
            raise TemporaryError("away")

    with pytest.raises(TemporaryError):
        await build(Away(), projection, page_size=5)


async def test_the_garbage_collector_is_left_as_it_was(inventory, projection):
    before = gc.get_threshold()
    await build(inventory, projection, page_size=5)
    inventory.lists["host"] = None  # cannot be cut into pages
    with pytest.raises(TypeError):
        await build(inventory, projection, page_size=5)
    assert gc.get_threshold() == before


def test_the_short_reading_fits_the_contract():
    whole = PartitionView.model_fields
    assert {name: field.annotation for name, field in PlacedPartition.model_fields.items()} == {
        name: whole[name].annotation for name in PlacedPartition.model_fields
    }
    assert set(PlacementChanged.model_fields) <= set(PartitionEvent.model_fields)
