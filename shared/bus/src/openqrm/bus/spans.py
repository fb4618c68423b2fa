"""Sends ended spans to the SPANS stream, grouped by trace, for the waterfall of an operation."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import INVALID_SPAN_CONTEXT, StatusCode

from openqrm.bus.cancelling import end
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.span import Span, SpansRecorded

if TYPE_CHECKING:
    from openqrm.bus.bus import Bus

FLUSH_SECONDS = 0.5
TRACES_AT_ONCE = 200
MAX_BUFFERED = 20_000
"""Spans kept while the bus is away; more are dropped, since a trace is not worth the memory of a data centre."""


class SpanSender(SpanProcessor):
    """Collects spans as they end and publishes them a moment later."""

    def __init__(self, bus: "Bus", clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._ended: list[ReadableSpan] = []
        self._task: asyncio.Task[None] | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """Called by OpenTelemetry, from any thread; list.append is atomic."""
        if len(self._ended) < MAX_BUFFERED:
            self._ended.append(span)

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._flush_forever(), name="spans")

    async def stop(self) -> None:
        """Publish what is left."""
        if self._task:
            await end([self._task])
            with suppress(NatsError, TemporaryError):
                await self._flush()

    async def _flush_forever(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_SECONDS)
            if self._ended and self._bus.is_connected:
                with suppress(NatsError, TemporaryError):
                    await self._flush()

    async def _flush(self) -> None:
        ended, self._ended = self._ended, []
        traces: dict[str, list[Span]] = defaultdict(list)
        for span in ended:
            converted = _convert(span, self._bus.service)
            traces[converted.trace_id].append(converted)
        recorded = [SpansRecorded(trace_id=trace_id, spans=tuple(spans)) for trace_id, spans in traces.items()]
        for start in range(0, len(recorded), TRACES_AT_ONCE):
            await self._publish(recorded[start : start + TRACES_AT_ONCE])

    async def _publish(self, recorded: list[SpansRecorded]) -> None:
        """Together, so that the server waits for its disk once; without a word from it where that cannot be."""
        messages = [self._bus.prepare(each) for each in recorded]
        if await self._bus.publish_together(messages) is None:
            for subject, headers, body in messages:
                await self._bus.client.publish(subject, body, headers=headers)


def _convert(span: ReadableSpan, service: str) -> Span:
    context = span.get_span_context() or INVALID_SPAN_CONTEXT
    failed = span.status.status_code is StatusCode.ERROR
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        service=service,
        name=span.name,
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        error=(span.status.description or "failed") if failed else None,
        attributes=dict(span.attributes or {}),
    )
