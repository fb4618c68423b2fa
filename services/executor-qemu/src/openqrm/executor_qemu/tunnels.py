"""Carries bytes between libvirt's client library on this machine and libvirt's daemon on a host.

libvirt is told to use a Unix socket in a private folder; behind it this module talks SSH, TLS or TCP to the host.
That gives every way the same checks (host key, certificate), time limits and keepalive, and one thing that libvirt
itself does not offer: a call that hangs for ever ends when its tunnel is cut.

All of it runs in one thread with an event loop of its own, so that neither blocks the other: not a blocking libvirt
call the bytes it waits for, and not a busy service its hosts.
"""

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

T = TypeVar("T")

_CHUNK = 256 * 1024


class Reader(Protocol):
    """The receiving half of a stream, asyncio's or asyncssh's."""

    async def read(self, n: int = -1) -> bytes:
        """The next bytes; empty at the end."""


class Writer(Protocol):
    """The sending half of a stream, asyncio's or asyncssh's."""

    def write(self, data: bytes) -> None:
        """Queue bytes."""

    async def drain(self) -> None:
        """Wait until there is room for more."""

    def close(self) -> None:
        """End it."""


Dial = Callable[[], Awaitable[tuple[Reader, Writer]]]


class TransportLoop:
    """The thread that all tunnels live in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="openqrm-qemu-"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="qemu-tunnels", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in the tunnels' thread."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def call(self, function: Callable[[], None]) -> None:
        """Do something in the tunnels' thread, soon."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    async def close(self) -> None:
        """Cut what is open and end the thread."""

        async def cut() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if self._loop.is_closed():
            return
        await self.run(cut())
        self.call(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 5)
        if not self._loop.is_running():
            self._loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Tunnel:
    """A Unix socket on this machine whose one visitor talks to the host."""

    def __init__(self, transport: TransportLoop, path: Path, far: tuple[Reader, Writer]) -> None:
        self._transport = transport
        self.path = path
        self._far = far
        self._near: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._cut = False

    @classmethod
    async def open(cls, transport: TransportLoop, dial: Dial) -> "Tunnel":
        """Reach the host first, so that its errors are clear ones, then wait for the visitor. From any loop."""
        return await transport.run(cls._open(transport, dial))

    @classmethod
    async def _open(cls, transport: TransportLoop, dial: Dial) -> "Tunnel":
        tunnel = cls(transport, transport.folder / uuid4().hex, await dial())
        try:
            tunnel._server = await asyncio.start_unix_server(tunnel._visit, tunnel.path)
        except BaseException:
            tunnel._far[1].close()
            raise
        return tunnel

    def cut(self) -> None:
        """End it now, from any thread; harmless when repeated."""
        self._transport.call(self._end)

    def _end(self) -> None:
        self._cut = True
        self._stop_listening()
        for writer in (self._near, self._far[1]):
            if writer is not None:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stop_listening()
        if self._cut or self._near is not None:
            writer.close()
            return
        self._near = writer
        pumps = (
            asyncio.ensure_future(_pump(reader, self._far[1])),
            asyncio.ensure_future(_pump(self._far[0], writer)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._end()


async def _pump(reader: Reader, writer: Writer) -> None:
    # Whatever ends one direction ends the tunnel; who used it learns that from its own end.
    with contextlib.suppress(OSError, EOFError, RuntimeError, asyncio.CancelledError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
