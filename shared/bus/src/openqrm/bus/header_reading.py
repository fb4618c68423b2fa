"""Headers that cannot be read must not end the connection.

nats-py reads them in the loop that reads the connection. An error there (a header block of two bytes, a status that is
not UTF-8) ends the loop without a word; the service stays deaf until it reconnects, is sent the same message again, and
is deaf again. Whoever may publish one message could stop a service for good.

Nor does reading them have to take longer than reading the body: what is plain, as all of ours is, is taken apart here.
"""

import re
from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client

_log = structlog.get_logger()

_PLAIN = re.compile(rb"NATS/1\.0\r\n(?:[!-9;-~]+: [!-~](?:[ -~]*[!-~])?\r\n)+\r\n")
"""Only names and values that both this and nats-py take as they stand."""

_Read = Callable[[bytes | None], Awaitable[dict[str, str] | None]]


def survive_any_headers(client: Client) -> None:
    """Let messages whose headers this client cannot read come without headers."""
    read: _Read = client._process_headers  # noqa: SLF001 - nats-py has no other place for it

    async def forgiving(headers: bytes | None) -> dict[str, str] | None:
        if headers and _PLAIN.fullmatch(headers):
            lines = headers[len("NATS/1.0\r\n") : -len("\r\n\r\n")].decode("ascii").split("\r\n")
            return dict([line.split(": ", 1) for line in lines])
        try:
            return await read(headers)
        except (IndexError, ValueError):
            _log.warning("a message's headers cannot be read and are left out", headers=repr(headers)[:200])
            return None

    client._process_headers = forgiving  # type: ignore[method-assign]  # noqa: SLF001
