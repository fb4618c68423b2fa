"""Events as Server-Sent Events."""

import asyncio
import json
from contextlib import aclosing, suppress
from dataclasses import asdict

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openqrm.contracts.errors import OpenQrmError
from openqrm.gateway.auth.authenticator import Standing
from openqrm.gateway.events.filters import EventFilter
from openqrm.gateway.events.hub import Dropped, EventHub, Gap
from openqrm.gateway.middleware import STREAMING
from openqrm.telemetry.metrics import EVENT_CLIENTS

STALL_SECONDS = 30.0
"""A client that takes nothing for this long is gone, or as good as gone."""
GOODBYE_SECONDS = 2.0
_CHUNK = 64
NO_LONGER = "The login or the token no longer holds. Log in again."


class EventStreamResponse(Response):
    """Goes on until the client leaves, is too slow, loses its right, or the gateway stops."""

    def __init__(
        self,
        hub: EventHub,
        wanted: EventFilter,
        since: int,
        keepalive_seconds: float,
        standing: Standing,
    ) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._hub = hub
        self._wanted = wanted
        self._since = since
        self._keepalive = keepalive_seconds
        self._standing = standing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until something ends it."""
        scope[STREAMING] = True
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        writer = asyncio.create_task(self._write(send), name="sse")
        watcher = asyncio.create_task(_gone(receive), name="sse client")
        closing = asyncio.create_task(self._hub.closing.wait(), name="sse closing")
        try:
            with EVENT_CLIENTS.labels("sse").track_inprogress():
                await asyncio.wait((writer, watcher, closing), return_when=asyncio.FIRST_COMPLETED)
                if not watcher.done():
                    await asyncio.wait((writer,), timeout=GOODBYE_SECONDS)
        finally:
            for task in (writer, watcher, closing):
                task.cancel()
            ended = await asyncio.gather(writer, watcher, closing, return_exceptions=True)
        if not isinstance(ended[0], BaseException):
            with suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        async def put(data: bytes) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": True})

        await put(b"retry: 2000\n: following since %d\n\n" % self._since)
        try:
            async with aclosing(self._hub.subscribe(self._wanted, self._since, self._keepalive)) as news:
                async for item in news:
                    if not await self._standing.holds():
                        await put(notice("dropped", {"reason": NO_LONGER}))
                        return
                    if isinstance(item, list):
                        for start in range(0, len(item), _CHUNK):
                            await put(b"".join(event.sse for event in item[start : start + _CHUNK]))
                    elif isinstance(item, Gap):
                        await put(notice("gap", asdict(item)))
                    elif isinstance(item, Dropped):
                        await put(notice("dropped", asdict(item)))
                    else:
                        await put(b": \n\n")
        except OpenQrmError as error:
            await put(notice("dropped", {"reason": error.message}))


def notice(kind: str, data: dict[str, object]) -> bytes:
    """A server-sent event of a kind of its own, which does not move the client's place in the stream."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
