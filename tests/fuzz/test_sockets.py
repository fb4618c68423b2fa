"""WebSockets: damaged addresses, headers and frames; each refusal is a problem document, and nobody else notices."""

import asyncio
import json
import random
from urllib.parse import quote

import pytest
from budget import rng
from looks import all_goes_on, no_server_errors
from prey import Prey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

pytestmark = pytest.mark.timeout(600)

QUERIES = (
    "", "since=0", "since=-1", "since=99999999999999999999", "since=%00", "since=a&since=b", "since=1e3",
    "subject=partition.*", "subject=%3E", "subject=", "subject=..", "subject=%00", "subject=no.such", "unknown=1",
    "resource=", "resource=%F0%28", "resource=" + "r" * 4000, "subject=" + "&subject=".join(["host.*"] * 300),
)  # fmt: skip
TICKETS = ("", "guess", "%00", "%2F", "..", "%F0%28%8C", "t" * 5000, "\u202e", "' OR 1=1 --")
STRANGE_HEADERS = (
    {"Authorization": "Bearer \u00ff"},
    {"Authorization": "Basic YTpi"},
    {"Authorization": "", "Cookie": "openqrm_session=\u00ff"},
    {"Last-Event-ID": "\u00ff"},
    {"Origin": "http://[::1"},
    {"traceparent": "00-zz-zz-zz", "Sec-WebSocket-Protocol": "binary, \u00ff"},
)

BROKEN_HANDSHAKE = b"Failed to open a WebSocket connection: "
"""The WebSocket library's own sentence, about headers that are no handshake."""


def frames(choice: random.Random) -> list[bytes | str]:
    """What no client of ours sends."""
    return ["", "\x00", "{" * 5000, choice.randbytes(2000), b"", "x" * 200_000, json.dumps({"subscribe": ">"})]


async def test_the_events_socket(prey: Prey) -> None:
    base = prey.site.url.replace("http", "ws") + "/api/v1/events/ws"
    login = {"Authorization": f"Bearer {prey.site.token}"}
    for query in QUERIES:
        await damage(f"{base}?{query}", login, rng("events socket"))
    for headers in STRANGE_HEADERS:
        await damage(base, {**login, **headers}, rng("events socket"))
    await all_goes_on(prey)
    await no_server_errors(prey)


async def test_the_console_socket(prey: Prey) -> None:
    base = prey.site.url.replace("http", "ws")
    for ticket in TICKETS:
        await damage(f"{base}/api/v1/console/{quote(ticket, safe='%')}", {}, rng("console socket"))
    client = prey.client
    await client.run("POST", "/partitions/watched 1/start")
    try:
        for _ in range(3):
            given = await client.call("POST", "/partitions/watched 1/console-tickets", {"kind": "serial"}, status=201)
            await damage(base + given["path"], {}, rng("console socket"))
            await damage(base + given["path"], {}, rng("console socket"))  # used up
    finally:
        await client.run("POST", "/partitions/watched 1/stop")
    await all_goes_on(prey)
    await no_server_errors(prey)


async def damage(address: str, headers: dict[str, str], choice: random.Random) -> None:
    """Connect, send damaged frames, listen a moment; a refusal must be explained."""
    try:
        async with connect(address, additional_headers=headers, open_timeout=10, close_timeout=1) as socket:
            await _talk(socket, choice)
    except InvalidStatus as refused:
        answer = refused.response
        assert 400 <= answer.status_code < 500, (address[:200], answer)
        body = bytes(answer.body or b"")
        if body.startswith(BROKEN_HANDSHAKE):  # said before any of our code is asked
            return
        assert body.startswith(b"{"), (address[:200], answer.status_code, body)
        problem = json.loads(body)
        assert problem["type"].startswith("urn:openqrm:problem:"), (address[:200], problem)
        assert len(problem["detail"]) > 20, problem
    except (ConnectionClosed, ConnectionError, InvalidHandshake):
        pass


async def _talk(socket: ClientConnection, choice: random.Random) -> None:
    for frame in frames(choice):
        await socket.send(frame)
    try:
        async with asyncio.timeout(0.2):
            while True:
                heard = await socket.recv()
                if isinstance(heard, str):
                    json.loads(heard)
    except TimeoutError:
        pass
