"""Calls to the hypervisor are spans of their execution, and of nothing else."""

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from openqrm.driver.steps import step, traced_steps
from openqrm.telemetry.tracing import Tracing


def test_a_step_is_part_of_its_execution() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing("executor-x", processors=[SimpleSpanProcessor(exporter)])
    with traced_steps(tracing), tracing.span("driver partition.start"), step("libvirt: start"):
        pass
    inner, outer = exporter.get_finished_spans()
    assert inner.name == "libvirt: start"
    assert outer.context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


def test_outside_of_an_execution_nothing_is_kept() -> None:
    exporter = InMemorySpanExporter()
    Tracing("executor-x", processors=[SimpleSpanProcessor(exporter)])
    with step("libvirt: look"):
        pass
    assert exporter.get_finished_spans() == ()
