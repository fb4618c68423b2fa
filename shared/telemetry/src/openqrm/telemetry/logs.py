"""Structured logs: one line per fact, with the trace id of the request that it belongs to."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from openqrm.telemetry.tracing import current_trace_id


def _add_trace_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace_id = current_trace_id()
    if trace_id:
        event["trace_id"] = trace_id
    return event


def configure_logs(level: str = "INFO", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for the process: JSON lines for machines, or readable lines, on standard error or `stream`."""
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=out, force=True
    )


def get_logger(service: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry the service's name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(service=service)
    return logger
