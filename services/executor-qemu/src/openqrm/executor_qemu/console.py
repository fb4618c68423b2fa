"""The guest's serial console, its VNC display, a picture of its screen."""

import asyncio
import contextlib
import struct
import threading
import zlib
from typing import Any
from uuid import UUID

import libvirt

from openqrm.contracts.console import Screenshot
from openqrm.contracts.errors import DriverError, HostUnreachableError, NotFoundError, UnsupportedError, WrongStateError
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import read_display
from openqrm.executor_qemu.domains import Sight, look
from openqrm.executor_qemu.errors import code_of, translate
from openqrm.executor_qemu.sessions import Session
from openqrm.executor_qemu.tunnels import Tunnel

_CHUNK = 64 * 1024
_HIGH_WATER = 1024 * 1024
"""Bytes that wait for a slow reader before the guest's output is left where it is."""
_WRITE_SECONDS = 10.0
_FULL_PAUSE_SECONDS = 0.01

_READ_EVENTS = libvirt.VIR_STREAM_EVENT_READABLE
_END_EVENTS = libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR


def _need_active(connection: Any, partition_id: UUID) -> Sight:
    sight = look(connection, partition_id)
    if sight is None:
        raise NotFoundError(f"The host does not have partition {partition_id}.")
    if not sight.active:
        raise WrongStateError("The partition does not run, so it has no console: start it first.")
    return sight


# ---------------------------------------------------------------------------------------------------- serial


class SerialChannel:
    """A serial console over libvirt's stream, on a connection of its own."""

    def __init__(self, session: Session, leave: contextlib.AsyncExitStack) -> None:
        self._session = session
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self._stream: Any = None
        self._waiting = 0
        self._held_back = False
        self._lock = threading.Lock()
        self._closed = False
        session.on_close = lambda: self._tell(b"")

    def open(self, connection: Any, partition_id: UUID) -> None:
        """Take over the console. Blocking."""
        sight = _need_active(connection, partition_id)
        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        sight.domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        self._stream = stream
        stream.eventAddCallback(_READ_EVENTS | _END_EVENTS, self._on_event, None)

    def _on_event(self, stream: Any, events: int, _opaque: object) -> None:
        """In libvirt's thread: hand over what came in."""
        ended = bool(events & _END_EVENTS)
        if events & _READ_EVENTS:
            try:
                data = stream.recv(_CHUNK)
            except libvirt.libvirtError:
                data = b""
            if isinstance(data, bytes):
                if data:
                    self._hand_over(stream, data)
                else:
                    ended = True
        if ended:
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._tell(b"")

    def _hand_over(self, stream: Any, data: bytes) -> None:
        with self._lock:
            self._waiting += len(data)
            if self._waiting > _HIGH_WATER and not self._held_back:
                self._held_back = True
                stream.eventUpdateCallback(_END_EVENTS)
        self._tell(data)

    def _tell(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._received.put_nowait, data)

    async def read(self) -> bytes:
        """The next bytes from the guest; empty once the console is closed."""
        if self._closed and self._received.empty():
            return b""
        data = await self._received.get()
        if not data:
            self._closed = True
            self._received.put_nowait(b"")
            return b""
        with self._lock:
            self._waiting -= len(data)
            go_on = self._held_back and self._waiting < _HIGH_WATER // 2
            if go_on:
                self._held_back = False
        if go_on:
            with contextlib.suppress(libvirt.libvirtError, ConnectionError, TimeoutError):
                await self._session.run(
                    lambda _connection: self._stream.eventUpdateCallback(_READ_EVENTS | _END_EVENTS), _WRITE_SECONDS
                )
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes to the guest. Raises HostUnreachableError when the console is closed or takes nothing."""
        try:
            await self._session.run(lambda _connection: self._send(data), _WRITE_SECONDS)
        except (libvirt.libvirtError, ConnectionError, TimeoutError) as error:
            words = str(error) or "it hangs"
            raise HostUnreachableError(f"The serial console takes no more input: {words}") from error

    def _send(self, data: bytes) -> None:
        pause = threading.Event()
        while data and not self._closed:
            sent = self._stream.send(data)
            if sent < 0:
                pause.wait(_FULL_PAUSE_SECONDS)
            else:
                data = data[sent:]

    async def close(self) -> None:
        """Let go of the console."""
        if not self._closed:
            self._closed = True
            self._received.put_nowait(b"")
        await self._leave.aclose()


async def open_serial(link: HostLink, partition_id: UUID) -> SerialChannel:
    """The serial console of a running partition, taken over from an older session."""
    leave = contextlib.AsyncExitStack()
    session = await leave.enter_async_context(link.dedicated())
    channel = SerialChannel(session, leave)
    doing = "open the serial console"
    try:
        await session.run(lambda connection: channel.open(connection, partition_id), link.settings.call_timeout_seconds)
    except BaseException as error:
        await leave.aclose()
        if isinstance(error, libvirt.libvirtError):
            raise translate(code_of(error), str(error), doing, link.host.name, session.lost) from error
        if isinstance(error, TimeoutError):
            raise HostUnreachableError(f"Host '{link.host.name}' did not {doing} in time.") from error
        raise
    return channel


# ------------------------------------------------------------------------------------------------------- VNC


class PortChannel:
    """A byte stream to a port of the host."""

    def __init__(self, tunnel: Tunnel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tunnel = tunnel
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises HostUnreachableError when the other side is gone."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise HostUnreachableError(f"The display closed the connection: {error}") from error

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        self._tunnel.cut()


async def open_vnc(link: HostLink, partition_id: UUID) -> PortChannel:
    """The VNC display of a running partition, through the host's own line."""

    def find(connection: Any) -> str:
        return _need_active(connection, partition_id).xml

    display = read_display(await link.call("look for the display", find))
    if display is None:
        raise UnsupportedError("The partition has no VNC display. Give it one (vnc) and start it anew.")
    tunnel = await link.line.to_port(display.address, display.port)
    try:
        reader, writer = await asyncio.open_unix_connection(tunnel.path)
    except BaseException:
        tunnel.cut()
        raise
    return PortChannel(tunnel, reader, writer)


# ------------------------------------------------------------------------------------------------ screenshot


async def take_screenshot(link: HostLink, partition_id: UUID) -> Screenshot:
    """A PNG picture of a running partition's screen."""

    def take(connection: Any) -> tuple[str, bytes]:
        sight = _need_active(connection, partition_id)
        stream = connection.newStream(0)
        media_type = str(sight.domain.screenshot(stream, 0, 0))
        picture = bytearray()
        while data := stream.recv(_CHUNK):
            picture += data
        stream.finish()
        return media_type, bytes(picture)

    media_type, picture = await link.call("take a picture of the screen", take)
    if media_type != "image/png":
        picture = png_of_ppm(picture)
    return Screenshot(media_type="image/png", picture=picture)


def png_of_ppm(picture: bytes) -> bytes:
    """A binary PPM (P6) as PNG. Raises DriverError when it is none."""
    words: list[bytes] = []
    position = 0
    while len(words) < 4:
        end = position
        while end < len(picture) and not picture[end : end + 1].isspace():
            end += 1
        word = picture[position:end]
        if word.startswith(b"#"):
            newline = picture.find(b"\n", position)
            position = len(picture) if newline < 0 else newline + 1
            continue
        if not word and end >= len(picture):
            break
        if word:
            words.append(word)
        position = end + 1
    if len(words) != 4 or words[0] != b"P6" or words[3] != b"255" or not (words[1] + words[2]).isdigit():
        raise DriverError("The hypervisor's picture of the screen is in a format that is not known.")
    width, height = int(words[1]), int(words[2])
    row = width * 3
    pixels = picture[position : position + row * height]
    if len(pixels) < row * height:
        raise DriverError("The hypervisor's picture of the screen is cut short.")
    lines = b"".join(b"\0" + pixels[start : start + row] for start in range(0, row * height, row))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 6)) + chunk(b"IEND", b"")
