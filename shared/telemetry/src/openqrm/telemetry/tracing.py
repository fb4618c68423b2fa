"""One tracer per service; the trace of a request goes on across HTTP and the bus in a `traceparent` header."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Makes the spans of one service.

    `otlp_endpoint` is the traces URL of a collector (http://host:4318/v1/traces); without it spans go only to the
    processors given.
    """

    def __init__(
        self, service: str, otlp_endpoint: str | None = None, processors: Sequence[SpanProcessor] = ()
    ) -> None:
        self.service = service
        self._provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
        if otlp_endpoint:
            self.add_processor(BatchSpanProcessor(OTLPSpanExporter(otlp_endpoint)))
        for processor in processors:
            self.add_processor(processor)
        self._tracer = self._provider.get_tracer("openqrm")

    def add_processor(self, processor: SpanProcessor) -> None:
        """Send spans to one more place."""
        self._provider.add_span_processor(processor)

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        carrier: Mapping[str, str] | None = None,
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> Iterator[Span]:
        """Time a piece of work. `carrier`: headers of the message or request that caused it."""
        context = _propagator.extract(carrier) if carrier is not None else None
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, str(error) or type(error).__name__))
                raise

    def shutdown(self) -> None:
        """Flush what is not exported yet."""
        self._provider.shutdown()


def inject(headers: dict[str, str]) -> dict[str, str]:
    """Add the current trace context to headers, if there is one; returns them."""
    _propagator.inject(headers)
    return headers


def current_trace_id() -> str | None:
    """32 hexadecimal digits, or None outside of any span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
