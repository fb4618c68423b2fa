"""A client of the gateway that does not give up: it asks again, with the same key, until it is told something."""

from typing import Any

import httpx

from chaos.ledger import Ledger, Promise
from openqrm.contracts.clock import Clock
from openqrm.contracts.operation import OperationView

ANSWER_SECONDS = 12.0
WAIT_SECONDS = 5
"""How long one request waits for an operation's end."""
AGAIN_SECONDS = 0.3
LATER = frozenset({429, 502, 503, 504})
"""Statuses that say: not now."""


class OverError(Exception):
    """The round's time is over."""


class Client:
    """Speaks HTTP to the gateway, as the administrator."""

    def __init__(self, url: str, token: str, ledger: Ledger, clock: Clock) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=ANSWER_SECONDS, limits=limits)
        self._clock = clock
        self.ledger = ledger
        self.began = clock.monotonic()
        self.until = float("inf")
        """Seconds from the beginning of the load after which nothing is tried again."""

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return self._clock.monotonic() - self.began

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """An answer; None when there was none, or one that says: later."""
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError:
            return None
        if response.status_code in LATER:
            return None
        if response.status_code >= 500:
            self.ledger.complaints.append(
                f"{self.now:5.1f} s  {method} {path} was answered with {response.status_code}: {response.text[:500]}"
            )
            return None
        return response

    async def _again(self) -> None:
        if self.now > self.until:
            raise OverError
        await self._clock.sleep(AGAIN_SECONDS)

    async def ask(self, promise: Promise) -> None:
        """Send a command until it is acknowledged or refused. Raises OverError."""
        self.ledger.add(promise)
        headers = {"Idempotency-Key": str(promise.operation_id)}
        while True:
            promise.attempts += 1
            response = await self._answer(promise.method, promise.path, json=promise.body, headers=headers)
            if response is not None:
                break
            await self._again()
        promise.told_at = self.now
        if response.status_code >= 400:
            promise.refused = response.json()
        else:
            promise.told = OperationView.model_validate_json(response.content)

    async def end(self, promise: Promise) -> None:
        """Ask for an acknowledged operation until its end is told. Raises OverError."""
        while not promise.ended:
            response = await self._answer("GET", f"/operations/{promise.operation_id}", params={"wait": WAIT_SECONDS})
            if response is not None and response.status_code == 200:
                promise.told = OperationView.model_validate_json(response.content)
            if not promise.ended:
                await self._again()

    async def get(self, path: str, **query: Any) -> Any:
        """Read something; None when it does not exist. Raises OverError."""
        while (response := await self._answer("GET", path, params=query)) is None:
            await self._again()
        return response.json() if response.status_code == 200 else None

    async def all(self, path: str, **query: Any) -> list[Any]:
        """Every item of a list. Raises OverError."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, limit=500, **query, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items
