"""The floor: the least that a durable command, and an event, can cost, in a process of its own, with bare libraries.

One HTTP request: a message goes out to a stream and comes back from it, a transaction commits a row, a second message
goes out and comes back, the answer is sent. One event: a message in the stream is sent to every WebSocket. The same
NATS and PostgreSQL as openQRM's, with the same promises.

    floor.py PORT, with FLOOR_NATS (URL with a login) and FLOOR_SOCKET, FLOOR_PASSWORD (PostgreSQL) in the environment
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import asyncpg
import nats
import uvicorn

STREAM, SUBJECT, EVENT = "FLOOR", "floor.message", "floor.event"
_TABLE = "CREATE TABLE IF NOT EXISTS public.floor (id bigserial PRIMARY KEY, body bytea NOT NULL)"
_INSERT = "INSERT INTO public.floor (body) VALUES ($1)"


class Floor:
    """An ASGI application that does nothing but what has to be done."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._numbers = count()
        self._clients: set[Callable[[dict[str, Any]], Awaitable[None]]] = set()

    async def start(self) -> None:
        """Connect; make the stream and the table."""
        bus = await nats.connect(os.environ["FLOOR_NATS"])
        self._js = bus.jetstream()
        await self._js.add_stream(name=STREAM, subjects=[SUBJECT, EVENT])
        await self._js.subscribe(SUBJECT, cb=self._came, ordered_consumer=True)
        await self._js.subscribe(EVENT, cb=self._tell, ordered_consumer=True)
        self._database = await asyncpg.create_pool(
            host=os.environ["FLOOR_SOCKET"], user="postgres", password=os.environ["FLOOR_PASSWORD"],
            database="postgres", min_size=2, max_size=10,
        )  # fmt: skip
        await self._database.execute(_TABLE)

    async def _came(self, message: nats.aio.msg.Msg) -> None:
        future = self._waiting.pop(message.data[:20], None)
        if future is not None:
            future.set_result(None)

    async def _tell(self, message: nats.aio.msg.Msg) -> None:
        event = {"type": "websocket.send", "text": message.data.decode()}
        await asyncio.gather(*(send(event) for send in self._clients))

    async def _follow(self, receive, send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": '{"following":true}'})
        self._clients.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self._clients.discard(send)

    async def _round_trip(self, body: bytes) -> None:
        mark = b"%020d" % next(self._numbers)
        back = self._waiting[mark] = asyncio.get_running_loop().create_future()
        await asyncio.gather(self._js.publish(SUBJECT, mark + body), back)

    async def __call__(self, scope, receive, send) -> None:
        """One request, or one client of the events."""
        if scope["type"] == "websocket":
            await self._follow(receive, send)
            return
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"") or b"x" * 1000
        await self._round_trip(body)
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(_INSERT, body)
        await self._round_trip(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def main() -> None:
    """Serve until SIGTERM."""
    floor = Floor()
    await floor.start()
    config = uvicorn.Config(
        floor, port=int(sys.argv[1]), log_level="warning", lifespan="off", access_log=False,
        ws="websockets-sansio", ws_per_message_deflate=False,
    )  # fmt: skip
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main())
