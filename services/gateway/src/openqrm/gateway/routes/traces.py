"""The spans of one trace, for the waterfall of an operation."""

import re
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from openqrm.bus.streams import SPANS
from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.ids import is_id
from openqrm.contracts.operation import GetOperation
from openqrm.contracts.span import Span, SpansRecorded
from openqrm.gateway.events.reader import StreamReader
from openqrm.gateway.problems import invalid
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import json_response

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
MAX_MESSAGES = 2000


class TraceView(BaseModel):
    """A trace: what each service did for one request, and when."""

    trace_id: str
    spans: tuple[Span, ...] = Field(description="By start; those of the last second may still be on their way")
    complete: bool = Field(description="False when there are more spans than are shown")


def add(nouns: Nouns, reader: StreamReader) -> None:
    """Add the routes."""

    async def trace(id: Annotated[str, Path(description="Id of an operation, or of a trace")]) -> Response:  # noqa: A002 - the path's word
        """The spans of an operation or a trace.

        They are kept for a day.
        """
        trace_id = await _trace_of(nouns, id)
        subject = SpansRecorded.subject.replace("{trace}", trace_id)
        piece = await reader.read(SPANS, 1, MAX_MESSAGES, frozenset({subject}))
        spans = {
            span.span_id: span
            for message in piece.messages
            for span in SpansRecorded.model_validate_json(message.body).spans
        }
        if not spans:
            raise NotFoundError(
                f"No spans of the trace {trace_id} are kept. They are for a day; the newest take a second."
            )
        ordered = tuple(sorted(spans.values(), key=lambda span: span.start_ns))
        return json_response(TraceView(trace_id=trace_id, spans=ordered, complete=piece.complete))

    nouns.routes.add("GET", "/traces/{id}", trace, tag="traces", answer=TraceView)


async def _trace_of(nouns: Nouns, name: str) -> str:
    if _TRACE_ID.fullmatch(name):
        return name
    if not is_id(name):
        raise invalid("id", "must be an operation's id (UUID) or a trace id (32 hexadecimal digits)")
    operation = await nouns.questions.ask(GetOperation(operation_id=name))
    if operation.trace_id is None:
        raise NotFoundError(f"Operation {operation.id} was requested without a trace.")
    return operation.trace_id
