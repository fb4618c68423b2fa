"""Spans of one request belong to one trace, however many services they are made in."""

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from openqrm.telemetry.tracing import Tracing, current_trace_id, inject


def test_a_trace_goes_on_in_another_service() -> None:
    exporter = InMemorySpanExporter()
    first = Tracing("first", processors=[SimpleSpanProcessor(exporter)])
    second = Tracing("second", processors=[SimpleSpanProcessor(exporter)])
    with first.span("ask"):
        headers = inject({})
        trace_id = current_trace_id()
    with second.span("answer", carrier=headers):
        assert current_trace_id() == trace_id
    ask, answer = exporter.get_finished_spans()
    assert ask.context is not None
    assert answer.parent is not None
    assert answer.parent.span_id == ask.context.span_id
    assert answer.resource.attributes["service.name"] == "second"


def test_a_failed_span_says_why() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing("service", processors=[SimpleSpanProcessor(exporter)])
    with pytest.raises(ValueError, match="too large"), tracing.span("work"):
        raise ValueError("too large")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "too large"


def test_outside_of_a_span_there_is_no_trace() -> None:
    assert current_trace_id() is None
    assert inject({}) == {}
