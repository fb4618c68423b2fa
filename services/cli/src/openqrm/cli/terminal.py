"""A guest's console on this terminal, or between pipes."""

import asyncio
import os
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from openqrm.cli.client import Client, ref, unreachable
from openqrm.cli.errors import CliError
from openqrm.cli.events import refusal
from openqrm.cli.output import Output

LEAVE = b"\x1d"
"""Ctrl-]"""

LOST = 4001


class Terminal:
    """Carries bytes between this process's standard streams and a console."""

    def __init__(self, client: Client, output: Output) -> None:
        self._client = client
        self._output = output

    def attach(self, name: str, linger: float) -> None:
        """Attach to the serial console until Ctrl-], the guest's end, or `linger` seconds of silence after our end."""
        ticket = self._client.post(f"partitions/{ref(name)}/console-tickets", {"kind": "serial"})
        interactive = sys.stdin.isatty()
        if interactive:
            self._output.say(f"Attached to the serial console of {name}. Leave with Ctrl-].")
        with raw_terminal() if interactive else _nothing():
            reason = asyncio.run(self._run(ticket["path"], interactive, linger))
        if interactive:
            self._output.say(f"\nLeft the console of {name}. {reason}".rstrip())
        elif reason:
            self._output.say(reason)

    async def _run(self, path: str, interactive: bool, linger: float) -> str:
        async with open_console(self._client, path) as socket:
            typed: asyncio.Queue[bytes] = asyncio.Queue()
            heard = asyncio.Event()
            _read_in_background(typed)
            send = asyncio.create_task(_send(socket, typed, interactive))
            receive = asyncio.create_task(_receive(socket, heard))
            try:
                await asyncio.wait((send, receive), return_when=asyncio.FIRST_COMPLETED)
                if not receive.done() and not send.result():
                    await _until_silent(receive, heard, linger)
            finally:
                for task in (send, receive):
                    task.cancel()
                await asyncio.gather(send, receive, return_exceptions=True)
            code, reason = socket.close_code, socket.close_reason or ""
        if code == LOST:
            raise CliError(reason or "The console's connection broke. Open it again.")
        return reason


async def _until_silent(receive: asyncio.Task[None], heard: asyncio.Event, linger: float) -> None:
    """Our input has ended: hear what the guest still says."""
    while not receive.done():
        heard.clear()
        hearing = asyncio.create_task(heard.wait())
        done, _ = await asyncio.wait((receive, hearing), timeout=linger, return_when=asyncio.FIRST_COMPLETED)
        hearing.cancel()
        if not done:
            return


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C included; the terminal is as before afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class open_console:  # noqa: N801 - used like a function
    """The WebSocket of a console, whose refusals and failures are CliErrors."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        url, _ = client.websocket(path)  # the ticket is the proof
        self._connect = connect(url, ssl=client.tls(), max_size=None, subprotocols=["binary"])  # type: ignore[list-item]

    async def __aenter__(self) -> ClientConnection:
        try:
            return await self._connect.__aenter__()
        except InvalidStatus as error:
            raise refusal(self._client, error) from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise unreachable(self._client.server, error) from error

    async def __aexit__(self, *error: object) -> None:
        await self._connect.__aexit__(None, None, None)


async def _send(socket: ClientConnection, typed: asyncio.Queue[bytes], interactive: bool) -> bool:
    """Send what is typed; True when the person leaves, False when the input ends."""
    with suppress(ConnectionClosed):
        while data := await typed.get():
            if interactive and LEAVE in data:
                await socket.send(data.split(LEAVE)[0])
                return True
            await socket.send(data)
    return False


async def _receive(socket: ClientConnection, heard: asyncio.Event) -> None:
    """Print what the guest says."""
    with suppress(ConnectionClosed):
        async for data in socket:
            _write(data.encode() if isinstance(data, str) else data)
            heard.set()


def _write(data: bytes) -> None:
    view = memoryview(data)
    descriptor = sys.stdout.fileno()
    while view:
        view = view[os.write(descriptor, view) :]


def _read_in_background(typed: "asyncio.Queue[bytes]") -> None:
    """Read standard input in a thread: files and pipes cannot be waited for in the same way as terminals."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def read() -> None:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                data = b""
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(typed.put_nowait, data)
            if not data:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()


class VncProxy:
    """A port of this machine that leads to a guest's screen; every connection gets a ticket of its own."""

    def __init__(self, client: Client, output: Output, name: str) -> None:
        self._client = client
        self._output = output
        self._name = name
        self._ended = asyncio.Event()

    async def serve(self, port: int, once: bool) -> None:
        """Listen on the loopback address until interrupted, or for one viewer."""
        await asyncio.to_thread(self._ticket)  # refused now rather than at the first viewer

        async def viewer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._carry(reader, writer)
            except CliError as error:
                self._output.error(error.message)
            finally:
                writer.close()
                if once:
                    self._ended.set()

        try:
            server = await asyncio.start_server(viewer, "127.0.0.1", port)
        except OSError as error:
            raise CliError(f"Port {port} of this machine cannot be used: {error.strerror}. Choose another.") from error
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            if self._output.as_json:
                self._output.line({"address": address})
            else:
                sys.stdout.write(address + "\n")
                sys.stdout.flush()
            self._output.say(f"The screen of {self._name} is at {address} for VNC viewers; Ctrl-C ends this.")
            await self._ended.wait()

    def _ticket(self) -> str:
        made = self._client.post(f"partitions/{ref(self._name)}/console-tickets", {"kind": "vnc"})
        return str(made["path"])

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = await asyncio.to_thread(self._ticket)
        async with open_console(self._client, path) as socket:

            async def to_guest() -> None:
                while data := await reader.read(65536):
                    await socket.send(data)

            async def to_viewer() -> None:
                async for data in socket:
                    writer.write(data if isinstance(data, bytes) else data.encode())
                    await writer.drain()

            tasks = [asyncio.create_task(to_guest()), asyncio.create_task(to_viewer())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if socket.close_reason:
                self._output.say(socket.close_reason)
