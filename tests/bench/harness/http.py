"""A lean HTTP/1.1 client: one kept connection, bodies with a length. The load must not be what limits."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from openqrm.contracts.clock import SystemClock

_PATIENCE_SECONDS = 240.0
"""For how long an operation is asked for that an error was the answer for; then it counts as lost."""
_AGAIN_SECONDS = 0.5
_CLOCK = SystemClock()


class HttpConnection:
    """One connection; requests on it go one after the other."""

    def __init__(self, port: int, token: str = "", host: str = "127.0.0.1") -> None:
        self._place = (host, port)
        self._head = f"Host: {host}:{port}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        self.postponed = 0
        """Commands that were answered with 202 although their end was waited for."""
        self.unanswered = 0
        """Times that one of those was asked for, and an error was the answer."""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._place, limit=4 * 1024 * 1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    async def send(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """One request; `headers`: lines that end in CRLF. Returns status and body."""
        assert self._reader is not None
        assert self._writer is not None
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{headers}Content-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = 0
        for line in answer.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, await self._reader.readexactly(length) if length else b""

    async def get(self, path: str) -> Any:
        """Read JSON below /api/v1; raises RuntimeError when it is not answered with 200."""
        status, body = await self.send("GET", f"/api/v1{path}")
        if status != 200:
            raise RuntimeError(f"GET {path}: {status} {body[:300].decode(errors='replace')}")
        return json.loads(body)

    async def command(self, method: str, path: str, body: Any = None, wait: int = 60) -> dict[str, Any]:
        """Send a command and wait for its operation's success; raises RuntimeError when it does not come.

        What the gateway had to answer with 202, since inventory had not begun yet, is asked for until it has ended.
        """
        data = json.dumps(body).encode() if body is not None else b""
        status, answer = await self.send(method, f"/api/v1{path}", data, f"Prefer: wait={wait}\r\n")
        operation: dict[str, Any] = json.loads(answer) if answer else {}
        if status == 202:
            self.postponed += 1
            place = f"/api/v1/operations/{operation['id']}?wait={wait}"
            end = _CLOCK.monotonic() + _PATIENCE_SECONDS
            while True:
                status, answer = await self.send("GET", place)
                if status == 200 or _CLOCK.monotonic() > end:
                    break
                self.unanswered += 1
                await _CLOCK.sleep(_AGAIN_SECONDS)
            operation = json.loads(answer)
        if status != 200 or operation.get("state") != "succeeded":
            raise RuntimeError(f"{method} {path}: {status} {answer[:300].decode(errors='replace')}")
        return operation
