"""A TCP connection that can be cut: a small proxy between one service and its NATS or PostgreSQL."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
CHUNK_BYTES = 64 * 1024


class AckSieve:
    """Lets a NATS client's bytes through, but for the acknowledgements of one stream's messages while it is closed."""

    def __init__(self) -> None:
        self.stream: str | None = None
        """Whose acknowledgements are lost; None: nobody's."""
        self.lost = 0

    def framing(self) -> Callable[[bytes], bytes]:
        """A function that takes what comes on one connection and returns what goes on."""
        held = bytearray()

        def through(data: bytes) -> bytes:
            held.extend(data)
            passed = bytearray()
            while (end := held.find(b"\r\n")) >= 0:
                words = bytes(held[:end]).split()
                verb = words[0].upper() if words else b""
                length = end + 2 + (int(words[-1]) + 2 if verb in (b"PUB", b"HPUB") else 0)
                if len(held) < length:
                    break
                if verb == b"PUB" and self._loses(words[1]):
                    self.lost += 1
                else:
                    passed += held[:length]
                del held[:length]
            return bytes(passed)

        return through

    def _loses(self, subject: bytes) -> bool:
        return self.stream is not None and subject.startswith(f"$JS.ACK.{self.stream}.".encode())


class Wire:
    """Listens on a socket and passes everything on. Cutting closes what is open and what is opened anew."""

    def __init__(self, name: str, listener: socket.socket, connect: Connect, sieve: AckSieve | None = None) -> None:
        self.name = name
        self.sieve = sieve
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._cut = False
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.release()

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self.cut()
        self.release()

    def cut(self) -> None:
        """Break every connection, and refuse new ones until `join`."""
        self._cut = True
        for writer in self._open:
            writer.transport.abort()

    def join(self) -> None:
        """Take connections again."""
        self._cut = False

    def hold(self, up: bool = True, down: bool = True) -> None:
        """Let no byte through until `release`, as a network that loses everything: from the service, to the service."""
        if up:
            self._up.clear()
        if down:
            self._down.clear()

    def release(self) -> None:
        """Let the bytes through again, those included that were held."""
        self._up.set()
        self._down.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._cut:
                return
            with suppress(OSError):
                far_reader, far_writer = await self._connect()
                self._open.add(far_writer)
                try:
                    through = self.sieve.framing() if self.sieve else bytes
                    await asyncio.gather(
                        self._pump(reader, far_writer, self._up, through),
                        self._pump(far_reader, writer, self._down, bytes),
                    )
                finally:
                    self._open.discard(far_writer)
                    far_writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
        through: Callable[[bytes], bytes],
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await flow.wait()
                writer.write(through(data))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()  # one side that is gone is the end of both
