"""Thins out a driver's progress reports: the first, the last, and at most four per second between them."""

from uuid import UUID

from nats.errors import Error as NatsError

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.execution import ExecutionProgressed

INTERVAL_SECONDS = 0.25


class Progress:
    """The progress of one execution."""

    def __init__(self, bus: Bus, clock: Clock, operation_id: UUID) -> None:
        self._bus = bus
        self._clock = clock
        self._operation_id = operation_id
        self._sent_at: float | None = None
        self._held_back: ExecutionProgressed | None = None

    async def report(self, percent: int, step: str) -> None:
        """Tell how far it is: percent (brought into 0..100) and words."""
        sample = ExecutionProgressed(
            operation_id=self._operation_id, progress=max(0, min(100, int(percent))), step=step
        )
        now = self._clock.monotonic()
        if self._sent_at is not None and now - self._sent_at < INTERVAL_SECONDS:
            self._held_back = sample
            return
        self._sent_at, self._held_back = now, None
        await self._send(sample)

    async def finish(self) -> None:
        """Send what was held back last."""
        if self._held_back:
            sample, self._held_back = self._held_back, None
            await self._send(sample)

    async def _send(self, sample: ExecutionProgressed) -> None:
        if not self._bus.is_connected:
            return
        try:
            await self._bus.publish(sample, about=self._operation_id)
        except NatsError:
            return  # a sample may be lost
