"""A byte channel to a program that answers what it is fed: the fake guest's serial console and screen."""

import asyncio
from collections.abc import Callable

from openqrm.contracts.errors import DriverError


class AnsweringChannel:
    """What is written is fed to a function; what that returns can be read."""

    def __init__(self, greeting: bytes, feed: Callable[[bytes], bytes], on_close: Callable[[], None]) -> None:
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        if greeting:
            self._answers.put_nowait(greeting)
        self._feed = feed
        self._on_close = on_close
        self._closed = False

    async def read(self) -> bytes:
        """The next bytes; empty once it is closed and everything was read."""
        if self._closed and self._answers.empty():
            return b""
        return await self._answers.get()

    async def write(self, data: bytes) -> None:
        """Type or send something."""
        if self._closed:
            raise DriverError("The console is closed. Open it again.")
        if answer := self._feed(data):
            self._answers.put_nowait(answer)

    async def close(self) -> None:
        """Close it from this side."""
        self.end()

    def end(self) -> None:
        """Close it, from whichever side."""
        if not self._closed:
            self._closed = True
            self._answers.put_nowait(b"")
            self._on_close()
