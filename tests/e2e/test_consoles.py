"""Consoles: a ticket, a WebSocket, a shell; the screen."""

import asyncio

import pytest
from installation import Client, Installation, Json
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

PATIENCE_SECONDS = 20


async def running(admin: Client, name: str) -> Json:
    made = await admin.partition(name, start=True)
    return await admin.becomes(f"/partitions/{made['id']}", state="running")


async def ticket(admin: Client, partition: Json, kind: str = "serial") -> str:
    answer: Json = await admin.call(
        "POST", f"/partitions/{partition['id']}/console-tickets", {"kind": kind}, status=201
    )
    return str(answer["path"])


async def until(connection: ClientConnection, wanted: bytes) -> bytes:
    """Read until it was said."""
    seen = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wanted not in seen:
            data = await connection.recv()
            seen += data if isinstance(data, bytes) else data.encode()
    return seen


def address(site: Installation, path: str) -> str:
    return site.url.replace("http", "ws") + path


async def test_a_shell_answers(admin: Client, site: Installation, name: str) -> None:
    partition = await running(admin, name)
    async with connect(address(site, await ticket(admin, partition))) as connection:
        await until(connection, b"# ")
        await connection.send(b"hostname\r")
        assert name.encode() in await until(connection, b"\r\n# ")
        await connection.send("echo grüße\r")
        assert "\r\ngrüße\r\n".encode() in await until(connection, b"\r\n# ")
        await connection.send(b"yes 300000\r")  # more than any buffer on the way
        seen = await until(connection, b"y\r\n# ")
        assert seen.count(b"y\r\n") == 300_000
        await connection.send(b"poweroff\r")
        with pytest.raises(ConnectionClosed) as closed:
            await until(connection, b"never said")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4000
    await admin.becomes(f"/partitions/{partition['id']}", state="stopped")


async def test_the_screen_by_vnc_and_as_a_picture(admin: Client, site: Installation, name: str) -> None:
    partition = await running(admin, name)
    url = address(site, await ticket(admin, partition, "vnc"))
    async with connect(url, subprotocols=[Subprotocol("binary")]) as connection:
        assert connection.subprotocol == "binary"
        assert (await until(connection, b"\n")).startswith(b"RFB 003.")
    picture = await admin.request("GET", f"/partitions/{partition['id']}/screenshot")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")


async def test_a_ticket_opens_one_console_once(admin: Client, site: Installation, name: str) -> None:
    partition = await running(admin, name)
    path = await ticket(admin, partition)
    async with connect(address(site, path)) as connection:
        await until(connection, b"# ")
    for used in (path, path[:-4] + "AAAA", "/api/v1/console/x"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(site, used))
        assert refused.value.response.status_code == 403
    await admin.refused("POST", f"/partitions/{partition['id']}/console-tickets", {"kind": "telepathy"}, status=422)


async def test_only_operators_look(admin: Client, site: Installation, name: str) -> None:
    partition = await running(admin, name)
    token = await admin.call("POST", "/tokens", {"name": name, "role": "viewer"}, status=201)
    viewer = site.client(token["token"])
    await viewer.refused("POST", f"/partitions/{partition['id']}/console-tickets", {}, status=403)
    await viewer.refused("GET", f"/partitions/{partition['id']}/screenshot", status=403)
