"""A NATS connection that checks nothing: it sends header blocks and bodies that no client library would send."""

import asyncio
import itertools
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """One message that came for us."""

    subject: str
    headers: bytes
    body: bytes


class RawNats:
    """One user's connection; open it with `open`."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._address = urlsplit(url)
        self.user = user
        self._password = password
        self._inbox = f"_INBOX_{user}.fuzz"
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._pong: asyncio.Future[None] | None = None
        self.errors: list[str] = []
        """What the server complained about."""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> "RawNats":
        """Connect, log in and listen to our inbox."""
        host, port = self._address.hostname, self._address.port
        self._reader, self._writer = await asyncio.open_connection(host, port, limit=16 * 1024 * 1024)
        await self._reader.readline()  # INFO
        word = {
            "verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1,
            "lang": "fuzz", "version": "0", "user": self.user, "pass": self._password,
        }  # fmt: skip
        self._writer.write(b"CONNECT " + json.dumps(word).encode() + b"\r\n")
        self._writer.write(f"SUB {self._inbox}.* 1\r\n".encode())
        self._task = asyncio.create_task(self._read(), name=f"raw NATS of {self.user}")
        await self.flush()
        return self

    async def close(self) -> None:
        """Leave."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended the connection."""
        return self._task is not None and not self._task.done()

    async def publish(self, subject: str, headers: bytes | None, body: bytes, reply: str = "") -> None:
        """Send one message; `headers` is the whole block, as it goes over the wire."""
        to = f"{subject} {reply}" if reply else subject
        if headers is None:
            self._writer.write(f"PUB {to} {len(body)}\r\n".encode() + body + b"\r\n")
        else:
            size = len(headers)
            self._writer.write(f"HPUB {to} {size} {size + len(body)}\r\n".encode() + headers + body + b"\r\n")
        await self._writer.drain()

    async def ask(self, subject: str, headers: bytes | None, body: bytes) -> "asyncio.Future[Answer]":
        """Send one message; what is returned will be the answer."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = answer
        await self.publish(subject, headers, body, reply)
        return answer

    async def flush(self) -> None:
        """Return once the server has read all that we sent."""
        self._pong = asyncio.get_running_loop().create_future()
        self._writer.write(b"PING\r\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._pong

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                await self._take(line)
        finally:
            gone = ConnectionError(f"NATS ended the connection of {self.user}: {self.errors[-1:]}")
            for waiting in (self._pong, *self._waiting.values()):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(gone)
                    waiting.exception()  # who still wants it gets it; nobody has to

    async def _take(self, line: bytes) -> None:
        verb, *words = line.split()
        if verb in (b"MSG", b"HMSG"):
            size = int(words[-1])
            block = (await self._reader.readexactly(size + 2))[:size]
            head = int(words[-2]) if verb == b"HMSG" else 0
            waiting = self._waiting.pop(words[0].decode(), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(Answer(words[0].decode(), block[:head], block[head:]))
        elif verb == b"PING":
            self._writer.write(b"PONG\r\n")
        elif verb == b"PONG" and self._pong is not None and not self._pong.done():
            self._pong.set_result(None)
        elif verb == b"-ERR":
            self.errors.append(line.decode().strip())

    async def subscribe(self, subject: str) -> None:
        """Ask to hear a subject; whether we may is told by `refused` after a `flush`."""
        self._writer.write(f"SUB {subject} {next(self._numbers) + 1000}\r\n".encode())
        await self._writer.drain()

    def refused(self, verb: str) -> set[str]:
        """The subjects that the server refused to let publish ("Publish") or subscribe ("Subscription") to."""
        pattern = re.compile(rf"Permissions Violation for {verb} to \"([^\"]+)\"")
        return {found for error in self.errors for found in pattern.findall(error)}
