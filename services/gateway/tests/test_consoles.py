"""Consoles by WebSocket: one ticket, one connection; bytes both ways; every end has a reason."""

import asyncio

import httpx
import pytest
from gateway_inventory import partition_view
from gateway_waiting import pause, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from openqrm.contracts.console import OpenConsole
from openqrm.contracts.errors import OpenQrmError, ProblemCode


async def ticket(operator: httpx.AsyncClient, kind: str = "serial") -> str:
    answer = await operator.post("/api/v1/partitions/web%201/console-tickets", json={"kind": kind})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["path"])


def url(gateway, path: str) -> str:
    return gateway.url.replace("http", "ws") + path


async def read(client, length: int) -> bytes:
    data = b""
    async with asyncio.timeout(10):
        while len(data) < length:
            data += await client.recv()
    return data


async def test_bytes_go_both_ways_until_the_guest_ends(gateway, operator, inventory) -> None:
    async with connect(url(gateway, await ticket(operator))) as client:
        assert await read(client, 7) == b"login: "
        await client.send(b"root\n")
        assert await read(client, 7) == b"<root\n>"
        await client.send("text is taken, too: ü")
        assert (await read(client, 10)).startswith(b"<text is")
        await client.send(b"exit\n")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "The guest logged out.")


async def test_a_ticket_opens_one_console_once(gateway, operator, inventory) -> None:
    path = await ticket(operator)
    async with connect(url(gateway, path)) as client:
        assert await read(client, 7) == b"login: "
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(gateway, path))
        assert refused.value.response.status_code == 403
        assert b"was used" in (refused.value.response.body or b"")
    assert len(inventory.consoles) == 1


async def test_a_ticket_soon_ends(site, gateway, operator, inventory) -> None:
    path = await ticket(operator)
    site.clock.shift += 61
    with pytest.raises(InvalidStatus):
        await connect(url(gateway, path))
    assert not inventory.consoles


async def test_a_screen_is_offered_to_browsers(gateway, operator, inventory) -> None:
    async with connect(url(gateway, await ticket(operator, "vnc")), subprotocols=["binary"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "binary"
        assert await read(client, 7) == b"login: "


async def test_leaving_ends_the_guests_side(gateway, operator, inventory) -> None:
    async with connect(url(gateway, await ticket(operator))) as client:
        await read(client, 7)
    await until(lambda: inventory.console_ended)


async def test_lost_bytes_are_not_passed_over(gateway, operator, inventory) -> None:
    async with connect(url(gateway, await ticket(operator))) as client:
        await read(client, 7)
        (session,) = inventory.consoles
        await inventory.say(session, b"after a hole", skip=1)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001


async def test_much_arrives_whole_and_in_order(gateway, operator, inventory) -> None:
    async with connect(url(gateway, await ticket(operator)), max_size=None) as client:
        await read(client, 7)
        (session,) = inventory.consoles
        sent = b""
        for number in range(600):
            piece = bytes([number % 251]) * 2000
            sent += piece
            await inventory.say(session, piece)
        assert await read(client, len(sent)) == sent
        typed = bytes(range(256)) * 1200
        await client.send(typed)
        await until(lambda: sum(map(len, inventory.guest_input)) >= len(typed))
        assert b"".join(inventory.guest_input) == typed


async def test_who_is_stopped_has_no_console(operator: httpx.AsyncClient, inventory) -> None:
    stopped = partition_view(name="off", state="stopped")
    blind = partition_view(name="blind", vnc=False)
    inventory.partitions |= {stopped.id: stopped, blind.id: blind}
    answer = await operator.post("/api/v1/partitions/off/console-tickets")
    assert (answer.status_code, answer.json()["details"]["state"]) == (409, "stopped")
    assert (await operator.get("/api/v1/partitions/off/screenshot")).status_code == 409
    answer = await operator.post("/api/v1/partitions/blind/console-tickets", json={"kind": "vnc"})
    assert answer.status_code == 409
    answer = await operator.post("/api/v1/partitions/blind/console-tickets", json={"kind": "smoke"})
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "kind")


async def test_an_executors_refusal_reaches_the_client(gateway, operator, inventory, monkeypatch) -> None:
    path = await ticket(operator)
    original = type(gateway.bus).request

    async def refuse(self, query, timeout=5):
        if isinstance(query, OpenConsole):
            raise OpenQrmError("The console is in use. Close the other one.", code=ProblemCode.CONFLICT)
        return await original(self, query, timeout)

    monkeypatch.setattr(type(gateway.bus), "request", refuse)
    with pytest.raises(InvalidStatus) as refused:
        await connect(url(gateway, path))
    assert refused.value.response.status_code == 409
    assert b"in use" in (refused.value.response.body or b"")


async def test_a_picture_of_the_screen(operator: httpx.AsyncClient, viewer, inventory) -> None:
    answer = await operator.get("/api/v1/partitions/web%201/screenshot")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    assert (await viewer.get("/api/v1/partitions/web%201/screenshot")).status_code == 403


async def test_a_consoles_opening_and_end_are_in_its_trace(gateway, operator, viewer, inventory) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80aaaa"
    path = await ticket(operator)
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    async with connect(url(gateway, path), additional_headers=headers) as client:
        assert await read(client, 7) == b"login: "

    async def names() -> set[str]:
        trace = await viewer.get(f"/api/v1/traces/{trace_id}")
        return {span["name"] for span in trace.json().get("spans", ())}

    wanted = {"WEBSOCKET /api/v1/console/{ticket}", "WEBSOCKET /api/v1/console/{ticket} ended"}
    for _ in range(300):
        if wanted <= (found := await names()):
            break
        await pause(0.1)
    assert wanted <= found
    assert "ask partition.open_console" in " ".join(await names())
    assert path.rsplit("/", 1)[1] not in " ".join(await names())
