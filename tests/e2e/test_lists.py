"""Long lists: 1,000 partitions, page by page."""

import asyncio
from typing import Any

import pytest
from installation import Client, Json

COUNT = 1000
TAG = "thousand"


@pytest.fixture(scope="module")
async def thousand(site: Any) -> list[str]:
    """Names of 1,000 partitions, asked for 100 at a time."""
    client: Client = site.client()
    names = [f"many {number:04}" for number in range(COUNT)]
    gate = asyncio.Semaphore(100)

    async def make(name: str) -> Json:
        async with gate:
            return await client.run("POST", "/partitions", {"name": name, "memory_mib": 16, "tags": [TAG]})

    await asyncio.gather(*map(make, names))
    return names


async def walk(client: Client, path: str, **query: Any) -> list[Json]:
    """Every item, by the cursor."""
    found: list[Json] = []
    cursor = None
    while True:
        page = await client.get(path, **query, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
        assert len(page["items"]) == query["limit"], "only the last page is not full"


async def test_every_one_comes_once_in_order(admin: Client, thousand: list[str]) -> None:
    for limit in (500, 300):
        found = await walk(admin, "/partitions", tag=TAG, limit=limit)
        assert [item["name"] for item in found] == thousand
    backwards = await walk(admin, "/partitions", tag=TAG, limit=400, descending="true")
    assert [item["name"] for item in backwards] == thousand[::-1]


async def test_a_walk_is_not_disturbed_by_changes(admin: Client, thousand: list[str]) -> None:
    first = await admin.get("/partitions", tag=TAG, limit=400)
    new = await admin.partition("many 0000 after", tags=[TAG])
    gone = await admin.partition("many 0999 after", tags=[TAG])
    second = await admin.get("/partitions", tag=TAG, limit=500, cursor=first["next_cursor"])
    await admin.run("DELETE", f"/partitions/{gone['id']}")
    third = await admin.get("/partitions", tag=TAG, limit=500, cursor=second["next_cursor"])
    names = [item["name"] for page in (first, second, third) for item in page["items"]]
    assert names == thousand, "what was made behind the cursor or is gone again is not there, and nothing is missing"
    await admin.run("DELETE", f"/partitions/{new['id']}")


async def test_filters_and_sorting(admin: Client, thousand: list[str]) -> None:
    found = await walk(admin, "/partitions", tag=TAG, name="MANY 00", limit=30)
    assert [item["name"] for item in found] == thousand[:100]
    by_time = await walk(admin, "/partitions", tag=TAG, sort="created_at", limit=500)
    moments = [item["created_at"] for item in by_time]
    assert moments == sorted(moments)
    by_host = {host: await walk(admin, "/partitions", tag=TAG, host=host, limit=500) for host in ("h1", "h2")}
    for host, items in by_host.items():
        assert {item["host_name"] for item in items} == {host}
        assert len(items) > COUNT / 3, "the scheduler spread them"


async def test_operations_too(admin: Client, thousand: list[str]) -> None:
    found = await walk(admin, "/operations", verb="partition.create", limit=500)
    assert len({item["id"] for item in found}) == len(found) >= COUNT


async def test_what_no_list_has(admin: Client, thousand: list[str]) -> None:
    page = await admin.get("/partitions", tag=TAG, limit=10)
    for query, field in (
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"cursor": "no cursor of ours"}, "cursor"),
        ({"cursor": page["next_cursor"], "sort": "created_at"}, "cursor"),
        ({"state": "asleep"}, "state"),
        ({"sort": "colour"}, "sort"),
        ({"nme": "x"}, "nme"),
    ):
        problem = await admin.refused("GET", "/partitions", status=422, params=query)
        assert [item["field"] for item in problem["fields"]] == [field], query
