"""Calls a driver: within a time limit, again after temporary errors, and never waiting for a call that cannot end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import DriverError, TemporaryError, TimedOutError
from openqrm.driver.executor.cancelling import stop_if_cancelled
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.gates import SetAside

T = TypeVar("T")

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 8.0


class Attempts:
    """The time rules that hold for every call of a driver. All limits in seconds."""

    def __init__(self, clock: Clock, deadlines: Deadlines, retry_limit: float, cancel_grace: float) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._retry_limit = retry_limit
        self._cancel_grace = cancel_grace
        self._log = structlog.get_logger()

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat what fails for the moment, for a bounded time; then its last error stands."""
        failing_since: float | None = None
        delay = FIRST_RETRY_SECONDS
        while True:
            stop_if_cancelled()
            try:
                return await call()
            except SetAside:
                raise
            except TemporaryError as error:
                now = self._clock.monotonic()
                failing_since = now if failing_since is None else failing_since
                wait = error.retry_after or delay
                if now + wait - failing_since > self._retry_limit:
                    raise
                self._log.info("the driver will be asked again", reason=error.message, seconds=wait)
            await self._clock.sleep(wait)
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)

    async def within(self, seconds: float, task: asyncio.Task[None], what: str) -> bool:
        """Wait for a task; False when somebody cancelled it.

        Raises what the task raises, TimedOutError when it was not done in time: it is cancelled then, and left behind
        when it does not end even so.
        """
        try:
            with self._deadlines.limit(seconds):
                await asyncio.wait({task})
        except TimeoutError:
            if not task.done():
                await self._end(task)
                raise TimedOutError(
                    f"{what} was ended after its limit of {seconds:g} s. What stands on the host was read afterwards; "
                    "look at it before trying again."
                ) from None
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            return False
        task.result()
        return True

    async def _end(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        try:
            with self._deadlines.limit(self._cancel_grace):
                await asyncio.wait({task})
        except TimeoutError:
            self._log.error("a driver's call cannot be cancelled; it is left behind", call=task.get_name())
        # Nobody asks for its end any more; asyncio would complain about an error that is not looked at.
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception() and None)


def cancelled_from_within(what: str) -> DriverError:
    """The error of a driver whose call ended as if it had been cancelled, without anybody asking for it."""
    return DriverError(f"{what}: the driver's call was cancelled from within. The executor's log has the details.")
