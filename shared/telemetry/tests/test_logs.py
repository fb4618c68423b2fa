"""Log lines are for machines when they should be, and carry the trace of their request."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from openqrm.telemetry.logs import configure_logs, get_logger
from openqrm.telemetry.tracing import Tracing, current_trace_id


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_json_line_has_service_level_and_trace() -> None:
    out = io.StringIO()
    configure_logs(as_json=True, stream=out)
    with Tracing("inventory").span("work"):
        trace_id = current_trace_id()
        get_logger("inventory").info("a partition started", partition="web 1")
    line = json.loads(out.getvalue())
    assert line["service"] == "inventory"
    assert line["level"] == "info"
    assert line["partition"] == "web 1"
    assert line["trace_id"] == trace_id


def test_lines_below_the_level_are_left_out() -> None:
    out = io.StringIO()
    configure_logs(level="ERROR", stream=out)
    get_logger("inventory").warning("unimportant")
    assert out.getvalue() == ""
