"""A continuous JetStream pull: messages arrive as they come, and more are asked for before the last ones are done.

Own code, since nats-py's `fetch`, which FastStream's pull subscriber uses, holds the first messages of a batch back
until the batch is full or its time is over (decision 0002).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from openqrm.bus.cancelling import end
from openqrm.contracts.clock import Clock

REQUEST_EXPIRES_SECONDS = 30.0
HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS
"""Without a message or heartbeat for this long the request is taken for lost (server restarted) and made anew."""
RETRY_SECONDS = 1.0
MISSING_AFTER = 3
"""Unanswered requests in a row after which the consumer counts as missing: a server that starts misses one or two."""


class ContinuousPull:
    """Pulls from one consumer until stopped; at most `window` messages are asked for and not yet delivered.

    `deliver` is awaited for each message in order: while it waits, no more is taken. `on_lost` is called when the
    consumer was deleted or has been silent for too long.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        inbox: str,
        window: int,
        deliver: Callable[[Msg], Awaitable[None]],
        clock: Clock,
        on_lost: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = f"{stream}/{consumer}"
        self._client = client
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = inbox
        self._window = window
        self._deliver = deliver
        self._clock = clock
        self._on_lost = on_lost
        self._delivering = False
        self._outstanding = 0
        self._unanswered = False
        self._refusals = 0
        self._heard_at = clock.monotonic()
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(consumer=self.name)

    @property
    def is_missing(self) -> bool:
        """Whether the server does not know the consumer, although it answers."""
        return self._refusals >= MISSING_AFTER

    async def start(self) -> None:
        """Begin to pull."""
        self._subscription = await self._client.subscribe(self._inbox, cb=self._on_message)
        self._task = asyncio.create_task(self._keep_asking(), name=f"pull {self._next}")

    async def stop(self) -> None:
        """Stop asking. Messages that came and were not acknowledged go to another replica after their ack wait."""
        await end([self._task])
        if self._subscription:
            with suppress(NatsError):
                await self._subscription.unsubscribe()

    def renew(self) -> None:
        """The connection was made anew: the server knows nothing more of what was asked for, so ask again."""
        self._outstanding = 0
        self._wake.set()

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock.monotonic()
        # What the server says of a request comes on our inbox. A header alone proves nothing: publishers choose theirs.
        status = message.headers.get("Status") if message.headers and message.subject == self._inbox else None
        if status != "503":
            self._was_answered()
        if status is None:
            self._outstanding -= 1
            if self._outstanding <= self._window // 2:
                self._wake.set()
            self._delivering = True
            try:
                await self._deliver(message)
            finally:
                self._delivering = False
                self._heard_at = self._clock.monotonic()
        elif status == "503":  # nobody took the request: JetStream is not up yet, or the consumer is gone
            self._outstanding = 0
            self._unanswered = True
            self._refusals += 1
            if self._refusals == MISSING_AFTER and self._on_lost is None:
                self._log.error(
                    "NATS does not know this consumer: it has lost its store, or was never prepared; nothing is taken "
                    "until openqrm.bus.provisioning has made streams and consumers"
                )
            self._wake.set()
            await self._lost()
        elif status != "100":  # 100 is a heartbeat; 404, 408 and 409 end the request
            description = (message.headers or {}).get("Description", "")
            self._outstanding = 0
            self._wake.set()
            if "Consumer Deleted" in description:
                await self._lost()

    def _was_answered(self) -> None:
        if self.is_missing and self._on_lost is None:
            self._log.warning("the consumer is there again")
        self._refusals = 0

    async def _lost(self) -> None:
        if self._on_lost:
            await self._on_lost()

    async def _keep_asking(self) -> None:
        while True:
            try:
                if self._unanswered:
                    self._unanswered = False
                    await self._clock.sleep(RETRY_SECONDS)
                if self._outstanding <= self._window // 2:
                    await self._ask()
                self._wake.clear()
                # not wait_for: that of Python 3.11 swallows a cancellation when it is woken at the same moment
                async with asyncio.timeout(RETRY_SECONDS if self._refusals else HEARTBEAT_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._was_answered()  # a refusal would have come by now
                if not self._delivering and self._clock.monotonic() - self._heard_at > SILENCE_SECONDS:
                    self._outstanding = 0
                    self._heard_at = self._clock.monotonic()
                    await self._lost()
            except NatsError as error:
                self._log.warning("cannot ask for messages; trying again", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)

    async def _ask(self) -> None:
        wanted = self._window - self._outstanding
        request = {
            "batch": wanted,
            "expires": int(REQUEST_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        }
        await self._client.publish(self._next, json.dumps(request).encode(), reply=self._inbox)
        self._outstanding += wanted
