"""Live events: resumed without a gap or a duplicate, filtered, and ended with a reason."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from gateway_inventory import partition_view
from gateway_waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from openqrm.bus.streams import EVENTS
from openqrm.contracts.dead_letter import DeadLetter, MessageDeadLettered
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.ids import new_id


@asynccontextmanager
async def follow(gateway, token: str, query: str = "") -> AsyncIterator[ClientConnection]:
    url = f"{gateway.url.replace('http', 'ws')}/api/v1/events/ws{query}"
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        assert json.loads(await client.recv())["notice"] == "following"
        yield client


async def take(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(15):
        return [json.loads(await client.recv()) for _ in range(count)]


class Sse:
    """Reads server-sent events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def take(self, count: int) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        current: dict[str, str] = {}
        async with asyncio.timeout(15):
            while len(found) < count:
                line = await anext(self._lines)
                if line.startswith(":"):
                    continue
                if line:
                    key, _, value = line.partition(": ")
                    current[key] = value
                elif "data" in current:
                    found.append(current)
                    current = {}
        return found


async def test_what_happens_arrives(gateway, admin_token, inventory) -> None:
    async with follow(gateway, admin_token) as client:
        sequence = await inventory.emit_started()
        (event,) = await take(client, 1)
    assert event["sequence"] == sequence
    assert event["subject"] == "partition.started"
    assert event["about"] == str(inventory.web.id)
    assert event["data"]["partition"]["name"] == "web 1"
    assert event["time"]


async def test_a_client_resumes_without_gap_or_duplicate_while_events_come(
    site, gateway, admin_token, inventory
) -> None:
    before = await inventory.emit_started()
    # A second gateway has just started: it has none of the events before its start in memory.
    other = site.gateway()
    sent = [await inventory.emit_started() for _ in range(700)]
    await other.start()
    try:

        async def keep_emitting() -> None:
            sent.extend([await inventory.emit_started() for _ in range(300)])

        emitting = asyncio.create_task(keep_emitting())
        received = await asyncio.gather(*(take_from(other, admin_token, before, 1000) for _ in range(5)))
        await emitting
        for got in received:
            assert [event["sequence"] for event in got] == sent
    finally:
        await other.stop()


async def take_from(gateway, token: str, since: int, count: int) -> list[dict[str, Any]]:
    async with follow(gateway, token, f"?since={since}") as client:
        return await take(client, count)


async def test_resuming_from_memory_and_from_the_stream_gives_the_same(site, gateway, admin_token, inventory) -> None:
    small = site.gateway(event_memory=10)
    await small.start()
    try:
        since = await inventory.emit_started()
        for _ in range(50):
            await inventory.emit_started()
        one = await take_from(small, admin_token, since, 50)
        two = await take_from(gateway, admin_token, since, 50)
        assert one == two
    finally:
        await small.stop()


async def test_filters_by_subject_and_resource(gateway, admin_token, operator, inventory) -> None:
    other = partition_view(name="other")
    since = await inventory.emit_started()
    async with (
        follow(gateway, admin_token, "?subject=operation.*") as operations,
        follow(gateway, admin_token, f"?subject=partition.%3E&resource={other.id}&since={since}") as one,
        follow(gateway, admin_token, f"?resource={inventory.web.host_id}") as by_host,
    ):
        await inventory.emit_started()
        await inventory.emit_started(other)
        await operator.post("/api/v1/partitions/web%201/start")
        assert [e["subject"] for e in await take(operations, 2)] == ["operation.accepted", "operation.succeeded"]
        assert (await take(one, 1))[0]["about"] == str(other.id)
        assert [e["about"] for e in await take(by_host, 2)] == [str(inventory.web.id), str(other.id)]


async def test_bad_filters_are_refused(gateway, admin_token, viewer) -> None:
    url = gateway.url.replace("http", "ws") + "/api/v1/events/ws"
    for query, field in (("subject=moon.*", "subject"), ("since=x", "since"), ("sinc=1", "sinc")):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}?{query}", additional_headers={"Authorization": f"Bearer {admin_token}"})
        assert refused.value.response.status_code == 422
        assert json.loads(refused.value.response.body or b"{}")["fields"][0]["field"] == field
    assert (await viewer.get("/api/v1/events?subject=moon.*")).status_code == 422


async def test_dead_letters_are_for_administrators(gateway, admin_token, viewer, inventory) -> None:
    since = await inventory.emit_started()
    letter = DeadLetter(
        id=new_id(), subject="x", headers={}, body=b"secret", consumer="c", deliveries=1,
        error=Problem(code=ProblemCode.INVALID, message="m"), occurred_at=inventory.web.created_at,
    )  # fmt: skip
    await inventory.bus.publish(MessageDeadLettered(letter=letter), about=letter.id)
    await inventory.emit_started()
    seen = (await viewer.get(f"/api/v1/events?since={since}")).json()["items"]
    assert [event["subject"] for event in seen] == ["partition.started"]
    assert (await viewer.get("/api/v1/events?subject=message.*")).status_code == 403
    assert len(await take_from(gateway, admin_token, since, 2)) == 2


async def test_server_sent_events_resume_by_their_last_id(gateway, viewer: httpx.AsyncClient, inventory) -> None:
    first = await inventory.emit_started()
    second = await inventory.emit_started()
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(first)}
    async with viewer.stream("GET", "/api/v1/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Sse(answer)
        (event,) = await stream.take(1)
        assert event["id"] == str(second)
        third = await inventory.emit_started()
        (event,) = await stream.take(1)
        assert (event["id"], json.loads(event["data"])["sequence"]) == (str(third), third)


async def test_silence_is_broken_by_a_sign_of_life(site, admin_token, inventory) -> None:
    gateway = site.gateway(keepalive_seconds=0.2)
    await gateway.start()
    try:
        headers = {"Authorization": f"Bearer {admin_token}"}
        async with (
            httpx.AsyncClient(base_url=gateway.url, headers=headers) as client,
            client.stream("GET", "/api/v1/events?follow=true") as answer,
        ):
            lines = [line async for line in first_lines(answer, 6)]
        assert lines.count(": ") >= 2
    finally:
        await gateway.stop()


async def first_lines(answer: httpx.Response, count: int) -> AsyncIterator[str]:
    lines = answer.aiter_lines()
    for _ in range(count):
        yield await anext(lines)


async def test_a_page_of_the_past(viewer: httpx.AsyncClient, inventory) -> None:
    since = await inventory.emit_started()
    other = partition_view(name="other")
    sequences = [await inventory.emit_started(other if n % 3 else None) for n in range(9)]
    first = (await viewer.get(f"/api/v1/events?since={since}&limit=4")).json()
    assert [e["sequence"] for e in first["items"]] == sequences[:4]
    assert first["gap"] is None
    second = (await viewer.get(f"/api/v1/events?since={first['next_since']}")).json()
    assert [e["sequence"] for e in second["items"]] == sequences[4:]
    assert second["next_since"] == second["last"] == sequences[-1]
    third = (await viewer.get(f"/api/v1/events?since={second['next_since']}")).json()
    assert third["items"] == []
    mine = (await viewer.get(f"/api/v1/events?since={since}&resource={other.id}&limit=2")).json()
    assert [e["sequence"] for e in mine["items"]] == sequences[1:3]
    last = (await viewer.get("/api/v1/events?last=2")).json()
    assert [e["sequence"] for e in last["items"]] == sequences[-2:]
    from_the_start = (await viewer.get("/api/v1/events?limit=1")).json()
    assert from_the_start["items"][0]["sequence"] >= from_the_start["first_available"]


async def test_what_is_no_longer_kept_is_a_gap(site, gateway, admin_token, viewer, inventory) -> None:
    since = await inventory.emit_started()
    for _ in range(5):
        last = await inventory.emit_started()
    await inventory.bus.js.purge_stream(EVENTS, seq=last)  # keeps `last` itself
    page = (await viewer.get(f"/api/v1/events?since={since}")).json()
    assert f"{since + 1} to {last - 1}" in page["gap"]
    assert [e["sequence"] for e in page["items"]] == [last]
    other = site.gateway()
    await other.start()
    try:
        async with follow(other, admin_token, f"?since={since}") as client:
            gap, event = await take(client, 2)
        assert (gap["notice"], gap["first_available"], event["sequence"]) == ("gap", last, last)
        async with follow(other, admin_token, f"?since={last + 1000}") as client:
            (gap,) = await take(client, 1)
            assert "another installation" in gap["detail"]
            fresh = await inventory.emit_started()
            assert (await take(client, 1))[0]["sequence"] == fresh
    finally:
        await other.stop()


async def test_a_slow_client_is_dropped_with_a_reason_and_the_others_go_on(site, admin_token, inventory) -> None:
    gateway = site.gateway(event_queue=20)
    await gateway.start()
    try:
        query = "GET /api/v1/events?follow=true HTTP/1.1\r\nHost: x\r\n"
        slow = socket.create_connection(("127.0.0.1", gateway.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(f"{query}Authorization: Bearer {admin_token}\r\n\r\n".encode())
        slow.setblocking(False)
        await until(lambda: gateway._hub.clients == 1)
        big = partition_view(name="x" * 200, tags=[f"{n:064d}" for n in range(64)])
        async with follow(gateway, admin_token) as quick:
            await until(lambda: gateway._hub.clients == 2)
            got = 0
            while gateway._hub.clients == 2 and got < 5000:
                await asyncio.gather(*(inventory.emit_started(big) for _ in range(15)))
                await take(quick, 15)
                got += 15
            assert gateway._hub.clients == 1
            await inventory.emit_started()
            assert len(await take(quick, 1)) == 1
        received = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while b"event: dropped" not in received:
                chunk = await loop.sock_recv(slow, 1 << 20)
                assert chunk, "closed without a word"
                received = received[-4096:] + chunk
        assert b"reads more slowly" in received
        slow.close()
        await until(lambda: gateway._hub.clients == 0)
    finally:
        await gateway.stop()


async def test_clients_that_are_gone_are_forgotten(gateway, viewer, admin_token, inventory) -> None:
    before = gateway._hub.clients
    async with follow(gateway, admin_token), viewer.stream("GET", "/api/v1/events?follow=true") as answer:
        assert answer.status_code == 200
        await until(lambda: gateway._hub.clients == before + 2)
    await until(lambda: gateway._hub.clients == before)


async def test_a_thousand_clients(site, admin_token, inventory) -> None:
    gateway = site.gateway()
    await gateway.start()
    try:
        request = (
            "GET /api/v1/events?follow=true&subject=partition.* HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {admin_token}\r\n\r\n"
        ).encode()
        streams = []
        for _ in range(1000):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request)
            streams.append((reader, writer))
        await until(lambda: gateway._hub.clients == 1000)
        sequences = [await inventory.emit_started() for _ in range(3)]
        async with asyncio.timeout(20):
            for reader, _ in streams:
                for sequence in sequences:
                    await reader.readuntil(b"id: %d\n" % sequence)
        for _, writer in streams:
            writer.close()
        await until(lambda: gateway._hub.clients == 0)
    finally:
        await gateway.stop()


async def test_a_revoked_token_ends_its_streams(site, admin, inventory) -> None:
    gateway = site.gateway(keepalive_seconds=0.1)
    await gateway.start()
    try:
        made = (await admin.post("/api/v1/tokens", json={"name": "stream"})).json()
        async with follow(gateway, made["token"]) as client:
            await admin.delete(f"/api/v1/tokens/{made['id']}")
            (notice,) = await take(client, 1)
            assert notice["notice"] == "dropped"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
    finally:
        await gateway.stop()


async def test_stopping_says_goodbye(site, admin_token, inventory) -> None:
    gateway = site.gateway()
    await gateway.start()
    async with follow(gateway, admin_token) as client:
        started = site.clock.monotonic()
        await gateway.stop()
        (notice,) = await take(client, 1)
        assert "shutting down" in notice["reason"]
        assert site.clock.monotonic() - started < 4


async def test_other_sites_cannot_listen_with_a_cookie(site, gateway, admin) -> None:
    password = (site.folder / "admin-password").read_text().strip()
    login = await admin.post(
        "/api/v1/session", json={"user": "admin", "password": password}, headers={"Authorization": ""}
    )
    cookie = login.headers["set-cookie"].split(";")[0]
    url = gateway.url.replace("http", "ws") + "/api/v1/events/ws"
    with pytest.raises(InvalidStatus):
        await connect(url, additional_headers={"Cookie": cookie}, origin="https://evil.example")
    async with connect(url, additional_headers={"Cookie": cookie}, origin=gateway.url) as client:
        assert json.loads(await client.recv())["notice"] == "following"
