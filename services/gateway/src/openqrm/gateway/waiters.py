"""Requests that wait for an operation hear of it here; one follower of the events serves them all."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from openqrm.contracts.operation import OperationEvent, OperationView
from openqrm.contracts.states import FINAL_OPERATION_STATES


def is_final(operation: OperationView) -> bool:
    """Whether the operation has ended."""
    return operation.state in FINAL_OPERATION_STATES


class Watch:
    """What one request has heard of one operation."""

    def __init__(self) -> None:
        self.latest: OperationView | None = None
        self._heard = asyncio.Event()

    def hear(self, operation: OperationView) -> None:
        """Take news; older ones than the latest are not news."""
        if self.latest is None or operation.revision >= self.latest.revision:
            self.latest = operation
            self._heard.set()

    async def first(self, seconds: float) -> OperationView | None:
        """The operation as soon as anything is heard of it; None when nothing is in time."""
        if self.latest is None:
            try:
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
            except TimeoutError:
                return None
        return self.latest

    async def end(self, seconds: float) -> OperationView | None:
        """The operation when it has ended, or as it is when the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while self.latest is None or not is_final(self.latest):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass
        return self.latest


class Waiters:
    """The watches, by operation."""

    def __init__(self) -> None:
        self._watches: dict[UUID, set[Watch]] = defaultdict(set)

    def __bool__(self) -> bool:
        return bool(self._watches)

    @contextmanager
    def watch(self, operation_id: UUID) -> Iterator[Watch]:
        """Hear of an operation from now on; begin before the command is published."""
        watch = Watch()
        self._watches[operation_id].add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[operation_id]
            watches.discard(watch)
            if not watches:
                del self._watches[operation_id]

    def tell(self, body: bytes) -> None:
        """Pass on an operation's event, as it came from the bus."""
        operation = OperationEvent.model_validate_json(body).operation
        for watch in self._watches.get(operation.id, ()):
            watch.hear(operation)
