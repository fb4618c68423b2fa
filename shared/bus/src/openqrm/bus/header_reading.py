"""Headers that cannot be read must not end the connection.

nats-py reads them in the loop that reads the connection. An error there (a header block of two bytes, a status that is
not UTF-8) ends the loop without a word; the service stays deaf until it reconnects, is sent the same message again, and
is deaf again. Whoever may publish one message could stop a service for good.
"""

from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client

_log = structlog.get_logger()

_Read = Callable[[bytes | None], Awaitable[dict[str, str] | None]]


def survive_any_headers(client: Client) -> None:
    """Let messages whose headers this client cannot read come without headers."""
    read: _Read = client._process_headers  # noqa: SLF001 - nats-py has no other place for it

    async def forgiving(headers: bytes | None) -> dict[str, str] | None:
        try:
            return await read(headers)
        except (IndexError, ValueError):
            _log.warning("a message's headers cannot be read and are left out", headers=repr(headers)[:200])
            return None

    client._process_headers = forgiving  # type: ignore[method-assign]  # noqa: SLF001
