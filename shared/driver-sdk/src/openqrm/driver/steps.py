"""Spans inside a driver: each call to the hypervisor shows in the waterfall of the operation that it is part of."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.trace import SpanKind

from openqrm.telemetry.tracing import Tracing

_tracing: ContextVar[Tracing | None] = ContextVar("tracing of the execution", default=None)


@contextmanager
def traced_steps(tracing: Tracing) -> Iterator[None]:
    """Let `step` make spans for what is called inside; the SDK does this around each execution."""
    token = _tracing.set(tracing)
    try:
        yield
    finally:
        _tracing.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time one call to the hypervisor. Outside of an execution, as when observing, nothing is kept."""
    tracing = _tracing.get()
    if tracing is None:
        yield
        return
    with tracing.span(name, SpanKind.CLIENT):
        yield
