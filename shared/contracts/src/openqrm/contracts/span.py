"""Spans of traces, kept for a day so that `openqrm trace` can print the waterfall of an operation."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.message import CLIENT, EXECUTOR, GATEWAY, HA_MONITOR, INVENTORY, SCHEDULER, Sample


class Span(BaseModel):
    """One timed piece of work."""

    model_config = ConfigDict(frozen=True)

    trace_id: str = Field(description="32 hexadecimal digits")
    span_id: str = Field(description="16 hexadecimal digits")
    parent_id: str | None
    service: str
    name: str
    start_ns: int = Field(description="Nanoseconds since the epoch")
    end_ns: int
    error: str | None
    attributes: dict[str, Any]


class SpansRecorded(
    Sample,
    subject="span.recorded.{trace}",
    publishers=(INVENTORY, SCHEDULER, EXECUTOR, GATEWAY, HA_MONITOR, CLIENT),
    consumers=(GATEWAY,),
):
    """Spans of one trace that ended in one service."""

    trace_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    spans: tuple[Span, ...]
