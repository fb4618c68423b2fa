"""Errors as a client sees them: RFC 9457 problem documents that say what happened, to what, and what to do next."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from openqrm.contracts.errors import HTTP_STATUS, FieldProblem, OpenQrmError, ProblemCode
from openqrm.telemetry.tracing import current_trace_id

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:openqrm:problem:"

_log = structlog.get_logger(service="gateway")

TITLES = {
    "invalid": "Invalid input",
    "not-found": "Not found",
    "conflict": "Conflict",
    "wrong-state": "Not allowed in this state",
    "duplicate": "Exists already",
    "precondition-failed": "Changed meanwhile",
    "forbidden": "Not allowed",
    "unsupported": "Not supported by this technology",
    "exhausted": "Nothing left",
    "no-fit": "No host fits",
    "stale-epoch": "A newer placement exists",
    "cancelled": "Cancelled",
    "timed-out": "Took too long",
    "unavailable": "Not available right now",
    "host-failed": "Host does not answer",
    "driver-failed": "The hypervisor refused",
    "internal": "Unexpected error",
    "malformed": "Unreadable request",
    "unauthenticated": "Login needed",
    "method-not-allowed": "Method not allowed",
    "too-large": "Too large",
    "unsupported-media-type": "Wrong content type",
    "too-many-requests": "Too many attempts",
    "storage-full": "Storage full",
    "gone": "No longer there",
}


class ProblemDocument(BaseModel):
    """An error. `detail` is for people, `code`, `fields` and `details` are for programs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:openqrm:problem:wrong-state",
                    "title": "Not allowed in this state",
                    "status": 409,
                    "detail": "Partition 'web 1' is running and cannot be started. Allowed now: stop, shutdown.",
                    "instance": "/api/v1/partitions/web%201/start",
                    "code": "wrong-state",
                    "fields": [],
                    "details": {"state": "running", "allowed": ["stop", "shutdown"]},
                    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                }
            ]
        }
    )

    type: str = Field(description="urn:openqrm:problem:<code>")
    title: str
    status: int
    detail: str = Field(description="What happened, to what, and what to do next")
    instance: str = Field(description="The path of the request")
    code: str
    fields: tuple[FieldProblem, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict)
    trace_id: str | None = None


class HttpError(Exception):
    """An error that only HTTP knows, such as a wrong content type."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        fields: tuple[FieldProblem, ...] = (),
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields
        self.details = dict(details or {})
        self.headers = dict(headers or {})


def unauthenticated(detail: str) -> HttpError:
    """401; the caller may try again with a login."""
    return HttpError(401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="openQRM"'})


def forbidden(detail: str, **details: object) -> HttpError:
    """403; the caller is known and may not."""
    return HttpError(403, "forbidden", detail, details=details)


def invalid(field: str, message: str, limit: str | None = None) -> HttpError:
    """422 about one field."""
    return HttpError(
        422,
        "invalid",
        f"{field}: {message}. Mend it and send the request again.",
        fields=(FieldProblem(field=field, message=message, limit=limit),),
    )


def problem_response(error: Exception, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """Any exception as a problem document; of an unexpected one the reader gets the trace id, the log the rest."""
    problem = as_http_error(error)
    document = ProblemDocument(
        type=f"{TYPE_PREFIX}{problem.code}",
        title=TITLES.get(problem.code, "Error"),
        status=problem.status,
        detail=problem.detail,
        instance=path,
        code=problem.code,
        fields=problem.fields,
        details=problem.details,
        trace_id=current_trace_id(),
    )
    return Response(
        document.model_dump_json(),
        problem.status,
        {**problem.headers, **(headers or {}), "Cache-Control": "no-store"},
        MEDIA_TYPE,
    )


def as_http_error(error: Exception) -> HttpError:
    """What HTTP says about an exception."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, OpenQrmError):
        return _of_ours(error)
    if isinstance(error, RequestValidationError):
        return _of_request(error)
    if isinstance(error, ValidationError):
        return _of_fields(error.errors(include_url=False, include_input=False), None)
    if isinstance(error, HTTPException):
        return _of_starlette(error)
    if isinstance(error, ClientDisconnect):
        return HttpError(400, "malformed", "The connection ended before the whole request had come. Send it again.")
    _log.error("an unexpected error", exc_info=error)
    trace_id = current_trace_id()
    where = f" with the trace id {trace_id}" if trace_id else ""
    return HttpError(
        500,
        "internal",
        f"The gateway met an unexpected {type(error).__name__}. It is in the gateway's log{where}; "
        "check whether the request took effect before you send it again.",
    )


def _of_ours(error: OpenQrmError) -> HttpError:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif error.code is ProblemCode.UNAVAILABLE:
        headers["Retry-After"] = "2"
    return HttpError(
        HTTP_STATUS[error.code],
        error.code.value,
        error.message,
        fields=error.fields,
        details=error.details,
        headers=headers,
    )


def _of_starlette(error: HTTPException) -> HttpError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return HttpError(
            404, "not-found", "Nothing lives at this address. The routes are listed at /api/v1/docs.", headers=headers
        )
    if error.status_code == 405:
        allowed = headers.get("Allow", "")
        return HttpError(
            405,
            "method-not-allowed",
            f"This address does not take this method; it takes {allowed or 'others'}. See /api/v1/docs.",
            headers=headers,
        )
    if error.status_code == 400:
        if isinstance(error.__cause__, HttpError):  # raised while the body was read, and wrapped by FastAPI
            return error.__cause__
        return HttpError(
            400, "malformed", "The request's body cannot be read. Send JSON in UTF-8 and no deeper than needed."
        )
    return HttpError(error.status_code, "malformed", str(error.detail), headers=headers)


def _of_request(error: RequestValidationError) -> HttpError:
    errors: Sequence[Any] = error.errors()
    for item in errors:
        if item["type"] == "json_invalid":
            position = item["loc"][1] if len(item["loc"]) > 1 else "?"
            reason = item.get("ctx", {}).get("error", "not JSON")
            return HttpError(
                400,
                "malformed",
                f"The body is not JSON: {reason} (at character {position}). Send one JSON object in UTF-8.",
            )
        if item["loc"][:1] == ("path",):
            return HttpError(
                404, "not-found", f"There is no such {item['loc'][-1]}: {item['msg']}. Look the id up in the list."
            )
        if item["loc"] == ("body",) and item["type"] == "missing":
            return HttpError(
                422, "invalid", "The request needs a body: one JSON object with Content-Type application/json."
            )
    return _of_fields(errors, error.body)


def _of_fields(errors: Iterable[ErrorDetails], body: object) -> HttpError:
    fields = tuple(_field(item, body) for item in errors)
    said = "; ".join(f"{problem.field}: {problem.message}" for problem in fields[:5])
    more = f"; and {len(fields) - 5} more" if len(fields) > 5 else ""
    return HttpError(422, "invalid", f"{said}{more}. Mend this and send the request again.", fields=fields)


def _field(item: ErrorDetails, body: object) -> FieldProblem:
    message, limit = _words(item)
    return FieldProblem(field=_dotted(item["loc"], body), message=message, limit=limit)


def _dotted(location: Sequence[str | int], body: object) -> str:
    """The path as the client wrote it: Pydantic adds the names of a union's members, which are not in the input."""
    parts = list(location)
    if parts and parts[0] in ("body", "query", "header", "path"):
        parts = parts[1:]
    path: list[str] = []
    here = body
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if isinstance(here, dict):
            if part in here:
                here = here[part]
            elif not last:
                continue
        elif isinstance(here, list | tuple) and isinstance(part, int) and 0 <= part < len(here):
            here = here[part]
        elif here is not None and not isinstance(here, dict | list | tuple) and body is not None:
            continue  # a scalar has no parts: this is the name of a union's member
        path.append(str(part))
    return ".".join(path) or "body"


_LIMITS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
}


def _words(item: ErrorDetails) -> tuple[str, str | None]:
    context = item.get("ctx") or {}
    for key, phrase in _LIMITS.items():
        if key in context:
            limit = phrase.format(context[key])
            return f"must be {limit}", limit
    kind = item["type"]
    if kind in ("string_too_long", "too_long"):
        unit = "characters" if kind.startswith("string") else "items"
        limit = f"at most {context.get('max_length')} {unit}"
        return f"must have {limit}", limit
    if kind in ("string_too_short", "too_short"):
        unit = "characters" if kind.startswith("string") else "items"
        limit = f"at least {context.get('min_length')} {unit}"
        return f"must have {limit}", limit
    if kind == "string_pattern_mismatch":
        return f"must match {context.get('pattern')}", str(context.get("pattern"))
    if kind == "missing":
        return "is needed and missing", None
    if kind == "extra_forbidden":
        return "is not known here; check the spelling, or leave it out", None
    if kind in ("enum", "literal_error"):
        return f"must be one of {context.get('expected')}", str(context.get("expected"))
    message = item["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:], None


def problem_bytes(problem: HttpError, path: str) -> bytes:
    """A problem document outside of a response, for event streams."""
    return json.dumps(
        {
            "type": f"{TYPE_PREFIX}{problem.code}",
            "title": TITLES.get(problem.code, "Error"),
            "status": problem.status,
            "detail": problem.detail,
            "instance": path,
            "code": problem.code,
            "details": problem.details,
        }
    ).encode()
