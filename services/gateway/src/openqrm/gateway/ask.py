"""Asking other services, and saying at once when the bus is away instead of letting people wait for it."""

from typing import TypeVar

from pydantic import BaseModel

from openqrm.bus.bus import REQUEST_TIMEOUT_SECONDS, Bus
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.message import Query

Result = TypeVar("Result", bound=BaseModel)


class Questions:
    """Asks on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ask(self, query: Query[Result], timeout: float = REQUEST_TIMEOUT_SECONDS) -> Result:
        """The answer; raises what the other side raised."""
        self.check()
        return await self._bus.request(query, timeout)

    def check(self) -> None:
        """Raise when the bus is away."""
        if not self._bus.is_connected:
            raise TemporaryError(
                "The gateway cannot reach the bus (NATS) right now and reconnects by itself. "
                "Try again in a few seconds; if it lasts, check that nats-server runs.",
                retry_after=3.0,
            )
