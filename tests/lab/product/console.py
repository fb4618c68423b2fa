"""A guest's consoles, through the gateway's WebSockets."""

import codecs
import re
import secrets
import socket
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from qemu_lab import Lab
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from product.gateway import Gateway, RefusedError, segment
from product.waiting import sleep

USER, PASSWORD = "root", "openqrm"
ENTER = "\n"
"""Not a carriage return: a getty that is answered at once may leave a terminal that does not translate those."""
LOGIN_SECONDS = 90.0
ANSWER_SECONDS = 30.0
_ASK_AGAIN_SECONDS = 5.0
_PROMPT_SECONDS = 0.3
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ConsoleClosedError(Exception):
    """The other side closed the console."""


def ticket_path(gateway: Gateway, partition: object, kind: str) -> str:
    """Take a ticket for a console; returns the address of the WebSocket that it opens."""
    answer = gateway.request("POST", f"/partitions/{segment(partition)}/console-tickets", {"kind": kind})
    return str(answer.json()["path"])


def open_socket(lab: Lab, gateway: Gateway, path: str, leave: ExitStack) -> ClientConnection:
    """Open a console's WebSocket; `leave` closes it."""
    plain = lab.in_controller(lambda: socket.create_connection(("127.0.0.1", gateway.port), 10))
    address = f"ws://127.0.0.1:{gateway.port}{path}"
    # Neither pings nor compression: a stalled emulator must not look like a lost connection.
    opened = connect(address, sock=plain, open_timeout=30, ping_interval=None, compression=None, proxy=None)
    return leave.enter_context(opened)


class SerialConsole:
    """A shell on the guest's serial line."""

    def __init__(self, lab: Lab, gateway: Gateway, partition: object, path: str | None = None) -> None:
        """`path`: the address of the first WebSocket, if its ticket was taken already."""
        self._lab = lab
        self._gateway = gateway
        self._partition = partition
        self._path = path
        self._socket: ClientConnection | None = None
        self._leave = ExitStack()
        self._text = ""
        self._heard = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the console; the shell stays logged in."""
        self._socket = None
        self._text = ""
        self._leave.close()

    @property
    def heard(self) -> str:
        """Everything that came from the guest."""
        return self._heard

    def is_open(self) -> bool:
        """Whether the other side still holds the console; reads what came meanwhile."""
        try:
            self._receive(0.1)
        except ConsoleClosedError:
            return False
        return True

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            path, self._path = self._path or ticket_path(self._gateway, self._partition, "serial"), None
            self._socket = open_socket(self._lab, self._gateway, path, self._leave)
        return self._socket

    def send(self, text: str) -> None:
        """Type something."""
        try:
            self._connected().send(text.encode())
        except ConnectionClosed as error:
            raise self._closed(error) from error

    def _closed(self, error: ConnectionClosed) -> ConsoleClosedError:
        said = self._heard[-300:]
        self.close()
        return ConsoleClosedError(f"the console was closed: {error}; heard last: {said!r}")

    def _receive(self, seconds: float) -> None:
        try:
            data = self._connected().recv(timeout=max(seconds, 0.01))
        except TimeoutError:
            return
        except ConnectionClosed as error:
            raise self._closed(error) from error
        text = self._decoder.decode(data) if isinstance(data, bytes) else data
        # What a terminal would act upon may come in two parts.
        self._text = _ESCAPES.sub("", self._text + text)
        self._heard = _ESCAPES.sub("", self._heard + text)

    def expect(self, pattern: str, seconds: float = ANSWER_SECONDS) -> re.Match[str]:
        """Read until the pattern comes, and forget everything up to its end."""
        match = self._find(pattern, seconds)
        assert match is not None, f"not on the console within {seconds:g} s: {pattern!r}; came: {self._text[-500:]!r}"
        return match

    def _find(self, pattern: str, seconds: float) -> re.Match[str] | None:
        end = time.monotonic() + seconds
        while True:
            if match := re.search(pattern, self._text, re.DOTALL):
                self._text = self._text[match.end() :]
                return match
            if time.monotonic() >= end:
                return None
            self._receive(end - time.monotonic())

    def login(self, seconds: float = LOGIN_SECONDS) -> Self:
        """Log in, or find that this was done already; a guest that is still booting is waited for."""
        end = time.monotonic() + seconds
        key = ENTER
        self._text = ""  # the prompt of an earlier command proves nothing
        while True:
            assert time.monotonic() < end, f"no login within {seconds:g} s; came: {self._heard[-500:]!r}"
            try:
                self.send(key)
                match = self._find(r"(login|[Pp]assword): $|# $", _ASK_AGAIN_SECONDS)
            except (ConsoleClosedError, WebSocketException, RefusedError, OSError):
                self.close()
                sleep(0.5)
                continue
            if match is None:
                key = ENTER
            elif match[1] is None:
                return self
            else:
                # The prompt comes a moment before the terminal is set for what follows.
                sleep(_PROMPT_SECONDS)
                key = (USER if match[1] == "login" else PASSWORD) + ENTER

    def wait_for_boot(self, seconds: float = LOGIN_SECONDS) -> Self:
        """Wait until the guest says that it is up, and log in."""
        self.expect(r"up after [\d.]+ s\r?\n", seconds)
        return self.login()

    def run(self, command: str, seconds: float = ANSWER_SECONDS) -> str:
        """Run a command in the guest's shell, and return what it printed. AssertionError when it fails."""
        output, status = self.attempt(command, seconds)
        assert status == 0, f"in the guest, {command!r} failed with status {status}: {output}"
        return output

    def attempt(self, command: str, seconds: float = ANSWER_SECONDS) -> tuple[str, int]:
        """Run a command in the guest's shell; returns what it printed and its status."""
        mark = secrets.token_hex(4)
        # The shell echoes what is typed; there the marks are broken by quotes.
        self.send(f'echo "<"{mark}; {command}; echo "{mark}>$?."{ENTER}')
        found = self.expect(rf"<{mark}\r?\n(.*?){mark}>(\d+)\.", seconds)
        lines = found[1].replace("\r", "").splitlines()
        # The guest's hardware events are told on the console, whatever else is written there.
        return "\n".join(line for line in lines if not line.startswith("openqrm-demo: ")), int(found[2])

    def start(self, script: str, name: str) -> None:
        """Run a script in the background, not tied to this shell, its output in /tmp/NAME."""
        self.run(f"(setsid sh -c {quoted(script)} < /dev/null > /tmp/{name} 2>&1 &)")


def quoted(text: str) -> str:
    """One word for the guest's shell."""
    return "'" + text.replace("'", "'\\''") + "'"


class Screen:
    """A guest's VNC display."""

    def __init__(self, lab: Lab, gateway: Gateway, partition: object) -> None:
        self._leave = ExitStack()
        self._socket = open_socket(lab, gateway, ticket_path(gateway, partition, "vnc"), self._leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.close()

    def read(self, count: int, seconds: float = 10.0) -> bytes:
        """The next bytes."""
        data = b""
        while len(data) < count:
            part = self._socket.recv(timeout=seconds)
            data += part if isinstance(part, bytes) else part.encode()
        return data

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.send(data)
