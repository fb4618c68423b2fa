"""Console sessions: a driver's byte channel on one side, numbered frames on the bus on the other."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import structlog
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.console import ConsoleReceived, ConsoleSent
from openqrm.contracts.errors import OpenQrmError
from openqrm.driver.capabilities import ByteChannel
from openqrm.driver.executor.cancelling import end
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.settings import ExecutorSettings

CHUNK_BYTES = 32 * 1024
"""Bytes of one frame at the most: in base64 far below NATS's limit of 1 MiB, small enough to take turns."""
WRITE_SECONDS = 30.0
"""A guest that takes nothing for so long has lost the session."""


class ConsoleSession:
    """One open console; ends itself when either side does, when frames are lost or when nobody is there any more."""

    def __init__(
        self,
        session_id: UUID,
        channel: ByteChannel,
        bus: Bus,
        clock: Clock,
        deadlines: Deadlines,
        settings: ExecutorSettings,
        on_closed: Callable[[UUID], None],
    ) -> None:
        self._id = session_id
        self._channel = channel
        self._bus = bus
        self._clock = clock
        self._deadlines = deadlines
        self._settings = settings
        self._on_closed = on_closed
        self._sent = 0
        self._received = 0
        self._heard_at = clock.monotonic()
        self._sending = asyncio.Lock()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service=bus.service, session=str(session_id))

    async def start(self) -> None:
        """Begin: from now on frames are heard and sent."""
        self._subscription = await self._bus.listen(ConsoleReceived, self._on_frame, session=self._id)
        self._task = asyncio.create_task(self._run(), name=f"console {self._id}")

    async def close(self, reason: str) -> None:
        """End the session and tell the other side why."""
        self._end(reason)
        if self._task:
            await self._task

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _run(self) -> None:
        parts = [asyncio.create_task(self._pump()), asyncio.create_task(self._keep_alive())]
        try:
            reason = await self._ended
        finally:
            await end(parts)
            if self._subscription:
                with suppress(NatsError):
                    await self._subscription.unsubscribe()
            with suppress(Exception), self._deadlines.limit(WRITE_SECONDS):
                await self._channel.close()
            self._on_closed(self._id)
        self._log.info("a console was closed", reason=reason)
        with suppress(NatsError):
            await self._send(b"", closed=reason)

    async def _pump(self) -> None:
        """From the guest to the bus."""
        try:
            while data := await self._channel.read():
                for start in range(0, len(data), CHUNK_BYTES):
                    await self._send(data[start : start + CHUNK_BYTES])
            self._end("The guest's side closed the console.")
        except (OpenQrmError, NatsError) as error:
            self._end(str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a broken channel ends its session, not the executor
            self._log.warning("a console broke", exc_info=True)
            self._end(f"The console broke: {type(error).__name__}.")

    async def _keep_alive(self) -> None:
        try:
            while True:
                await self._clock.sleep(self._settings.console_keepalive)
                if self._clock.monotonic() - self._heard_at > self._settings.console_silence:
                    self._end(f"Nothing was heard from the other side for {self._settings.console_silence:g} s.")
                    return
                await self._send(b"")
        except NatsError as error:
            self._end(str(error) or type(error).__name__)

    async def _send(self, data: bytes, closed: str | None = None) -> None:
        async with self._sending:
            frame = ConsoleSent(session_id=self._id, number=self._sent, data=data, closed=closed)
            self._sent += 1
            await self._bus.publish(frame, about=self._id)

    async def _on_frame(self, frame: ConsoleReceived) -> None:
        """From the bus to the guest. The next frame waits until this one is written, which holds a fast sender back."""
        if self._ended.done():
            return
        self._heard_at = self._clock.monotonic()
        if frame.number != self._received:
            self._end(f"Frame {self._received} was lost on the way to the guest.")
            return
        self._received += 1
        if frame.data:
            try:
                with self._deadlines.limit(WRITE_SECONDS):
                    await self._channel.write(frame.data)
            except TimeoutError:
                self._end(f"The guest has taken nothing for {WRITE_SECONDS:g} s.")
            except Exception as error:  # noqa: BLE001 - a broken channel ends its session, not the executor
                self._end(str(error) or type(error).__name__)
            self._heard_at = self._clock.monotonic()
        if frame.closed is not None:
            self._end(f"Closed by the other side: {frame.closed}")
