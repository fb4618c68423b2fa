"""Live events by SSE and WebSocket, and what came before."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from installation import Client, Installation, Json
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

PATIENCE_SECONDS = 20


@asynccontextmanager
async def sse(client: Client, since: int | None = None, **query: str) -> AsyncIterator[AsyncIterator[Json]]:
    """Server-sent events; the first item tells that it follows."""
    headers = {} if since is None else {"Last-Event-ID": str(since)}
    request = client.http.stream("GET", "/api/v1/events", params={"follow": "true", **query}, headers=headers)
    async with request as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[Json]:
    event: Json = {}
    async for line in response.aiter_lines():
        if line.startswith(": following"):
            yield {"following": True}
        elif not line and "data" in event:
            yield event
            event = {}
        elif line.startswith("data: "):
            event |= {"data": json.loads(line.removeprefix("data: "))}
        elif line.startswith(("id: ", "event: ")):
            key, _, value = line.partition(": ")
            event[key] = value


@asynccontextmanager
async def socket(site: Installation, query: str = "") -> AsyncIterator[ClientConnection]:
    """The events' WebSocket, following."""
    url = site.url.replace("http", "ws") + f"/api/v1/events/ws?{query}"
    async with connect(url, additional_headers={"Authorization": f"Bearer {site.token}"}) as connection:
        first = json.loads(await connection.recv())
        assert first["notice"] == "following"
        yield connection


async def next_of(events: AsyncIterator[Json]) -> Json:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(events)


async def test_server_sent_events_and_resuming(admin: Client, name: str) -> None:
    async with sse(admin, subject="partition.*") as events:
        assert await next_of(events) == {"following": True}
        made = await admin.partition(name)
        first = await next_of(events)
        while first["data"]["subject"] != "partition.created" or first["data"]["about"] != made["id"]:
            first = await next_of(events)
        assert first["id"] == str(first["data"]["sequence"])
        assert first["data"]["data"]["partition"]["name"] == name
    for verb in ("start", "stop"):
        await admin.run("POST", f"/partitions/{made['id']}/{verb}")
    async with sse(admin, since=int(first["id"]), resource=made["id"], subject="partition.>") as events:
        heard = []
        while "partition.stopped" not in heard:
            item = await next_of(events)
            if "data" in item:
                heard.append(item["data"]["subject"])
    assert [subject for subject in heard if subject != "partition.changed"] == [
        "partition.started",
        "partition.stopped",
    ]


async def test_events_by_websocket_and_resuming(admin: Client, site: Installation, name: str) -> None:
    async with socket(site, "subject=partition.created") as connection:
        made = await admin.partition(name)
        while True:
            event = json.loads(await asyncio.wait_for(connection.recv(), PATIENCE_SECONDS))
            if event["about"] == made["id"]:
                break
    assert event["subject"] == "partition.created"
    await admin.run("POST", f"/partitions/{made['id']}/start")
    async with socket(site, f"since={event['sequence']}&subject=partition.started&resource={made['id']}") as connection:
        later = json.loads(await asyncio.wait_for(connection.recv(), PATIENCE_SECONDS))
    assert (later["subject"], later["about"]) == ("partition.started", made["id"])


async def test_many_followers_hear_the_same(admin: Client, site: Installation, name: str) -> None:
    heard: list[list[int]] = []

    async def follow(ready: asyncio.Event) -> None:
        mine: list[int] = []
        async with socket(site, "subject=operation.*") as connection:
            ready.set()
            async for text in connection:
                event = json.loads(text)
                mine.append(event["sequence"])
                if event["data"]["operation"]["target_name"] == f"{name} last" and event["subject"].endswith(
                    "succeeded"
                ):
                    break
        heard.append(mine)

    readies = [asyncio.Event() for _ in range(30)]
    followers = [asyncio.create_task(follow(ready)) for ready in readies]
    await asyncio.gather(*(ready.wait() for ready in readies))
    for part in ("first", "last"):
        await admin.partition(f"{name} {part}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*followers)
    assert len(heard) == 30
    assert all(mine == sorted(mine) for mine in heard)
    assert len({tuple(mine) for mine in heard}) == 1


async def test_the_past_in_pages(admin: Client, name: str) -> None:
    made = await admin.partition(name)
    await admin.run("POST", f"/partitions/{made['id']}/start")
    found: list[Json] = []
    since = 0
    while True:
        page = await admin.get("/events", since=since, limit=50, resource=made["id"])
        assert page["gap"] is None
        found += page["items"]
        if page["next_since"] >= page["last"]:
            break
        assert page["next_since"] > since
        since = page["next_since"]
    subjects = [event["subject"] for event in found]
    assert subjects.index("partition.created") < subjects.index("partition.started")
    assert len({event["sequence"] for event in found}) == len(found)
    newest = await admin.get("/events", last=5)
    assert len(newest["items"]) <= 5
    for query in ({"subject": "no.such.subject!"}, {"limit": 0}, {"limit": 10_000}, {"since": "yesterday"}):
        await admin.refused("GET", "/events", status=422, params=query)


async def test_who_is_not_logged_in_hears_nothing(site: Installation) -> None:
    stranger = site.client(None)
    await stranger.refused("GET", "/events", status=401, params={"follow": "true"})
    with pytest.raises(InvalidStatus) as refused:
        await connect(site.url.replace("http", "ws") + "/api/v1/events/ws")
    assert refused.value.response.status_code == 401
