"""Events by WebSocket: one JSON text per event, and notices with the key `notice`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict

from starlette.websockets import WebSocket, WebSocketDisconnect

from openqrm.contracts.errors import OpenQrmError
from openqrm.gateway.auth.authenticator import Standing
from openqrm.gateway.events.filters import EventFilter
from openqrm.gateway.events.hub import Dropped, EventHub, Gap
from openqrm.gateway.events.sse import NO_LONGER, STALL_SECONDS
from openqrm.telemetry.metrics import EVENT_CLIENTS

TRY_AGAIN_LATER = 1013
NO_LONGER_ALLOWED = 4401


class EventSocket:
    """Sends events to WebSockets."""

    def __init__(self, hub: EventHub, keepalive_seconds: float) -> None:
        self._hub = hub
        self._keepalive = keepalive_seconds

    async def serve(self, socket: WebSocket, standing: Standing, wanted: EventFilter, since: int) -> None:
        """Send events until the client leaves, is too slow, loses its right, or the gateway stops."""
        await socket.accept()
        writer = asyncio.create_task(self._write(socket, standing, wanted, since), name="event socket")
        watcher = asyncio.create_task(_gone(socket), name="event socket's client")
        try:
            with EVENT_CLIENTS.labels("websocket").track_inprogress():
                await asyncio.wait((writer, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, watcher):
                task.cancel()
            ended = await asyncio.gather(writer, watcher, return_exceptions=True)
        if isinstance(ended[0], tuple):
            code, reason = ended[0]
            with suppress(RuntimeError, OSError, WebSocketDisconnect):
                await socket.close(code, short(reason))

    async def _write(self, socket: WebSocket, standing: Standing, wanted: EventFilter, since: int) -> tuple[int, str]:
        async def put(text: str) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await socket.send_text(text)

        await put(json.dumps({"notice": "following", "since": since}))
        try:
            async with aclosing(self._hub.subscribe(wanted, since, self._keepalive)) as news:
                async for item in news:
                    if not await standing.holds():
                        return await _drop(put, NO_LONGER_ALLOWED, NO_LONGER)
                    if isinstance(item, list):
                        for event in item:
                            await put(event.text)
                    elif isinstance(item, Gap):
                        await put(json.dumps({"notice": "gap", **asdict(item)}))
                    elif isinstance(item, Dropped):
                        return await _drop(put, TRY_AGAIN_LATER, item.reason)
        except OpenQrmError as error:
            return await _drop(put, TRY_AGAIN_LATER, error.message)
        return 1000, ""


async def _drop(put: Callable[[str], Awaitable[None]], code: int, reason: str) -> tuple[int, str]:
    await put(json.dumps({"notice": "dropped", "reason": reason}))
    return code, reason


def short(reason: str) -> str:
    """As much of a reason as a WebSocket's close frame can carry (123 bytes)."""
    return reason.encode()[:120].decode("utf-8", "ignore")


async def _gone(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            if (await socket.receive())["type"] == "websocket.disconnect":
                return
