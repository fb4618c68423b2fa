"""How routes are declared: every one below /api/v1, guarded, with its errors in the API's document."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel
from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts.ids import MAX_NAME_LENGTH
from openqrm.gateway.middleware import ESCAPED_SLASH
from openqrm.gateway.problems import ProblemDocument

API = "/api/v1"

JSON = "application/json"


def _unescape(text: str) -> str:
    return text.replace(ESCAPED_SLASH, "/")


PathRef = Annotated[
    str,
    AfterValidator(_unescape),
    Path(
        description="The thing's id, or its name with everything but letters and digits percent-encoded "
        "(a slash as %2F). Ids are safer: names change.",
        max_length=4 * MAX_NAME_LENGTH,
        examples=["web 1"],
    ),
]
"""A path's `{ref}`."""

Wait = Annotated[
    int,
    Query(
        ge=0,
        le=300,
        description="Seconds to wait for the operation's end (also as header `Prefer: wait=N`). When it ended in time "
        "the answer is 200, and `state` says how it ended; otherwise 202.",
    ),
]

_SENTENCES = {
    400: "The request cannot be read",
    401: "A login is needed",
    403: "The role or the token's scope does not allow it",
    404: "There is no such thing",
    409: "Wrong state, duplicate name, or another conflict; `code` says which",
    412: "It changed meanwhile (If-Match)",
    413: "The body is too large",
    415: "The body is not of the needed content type",
    422: "A field cannot be accepted; `fields` says which, why and what the limit is",
    429: "Too many attempts; see Retry-After",
    503: "A service behind the gateway does not answer; see Retry-After",
    507: "The disk is full",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses, and for those that every route can give."""
    return {
        status: {
            "description": _SENTENCES[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({401, 403, 503, *statuses})
    }


class Routes:
    """Adds routes to the application."""

    def __init__(self, app: FastAPI, route_class: type[APIRoute]) -> None:
        self._app = app
        self._route_class = route_class

    def add(
        self,
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        *,
        tag: str,
        answer: type[BaseModel] | None = None,
        status: int = 200,
        fails: Sequence[int] = (),
        summary: str | None = None,
        description: str | None = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        extra: dict[str, Any] | None = None,
        in_document: bool = True,
        prefix: str = API,
    ) -> None:
        """Add one route. For the API's document: `answer` is the model of its body, `fails` are statuses of its own."""
        text = inspect.getdoc(endpoint) or ""
        also = {404, 422} if "{" in path else set()
        also |= {400, 413, 415, 422} if method in ("POST", "PUT", "PATCH") else set()
        described = errors(*fails, *also)
        if answer is not None:
            described[status] = {"model": answer}
        described |= responses or {}
        self._app.router.add_api_route(
            prefix + path,
            endpoint,
            methods=[method],
            status_code=status,
            response_model=None,
            response_class=Response,
            tags=[tag],
            summary=summary or text.split("\n", 1)[0].rstrip("."),
            description=description or text,
            responses=described,
            openapi_extra=extra,
            include_in_schema=in_document,
            operation_id=_operation_id(method, path),
            route_class_override=self._route_class,
        )


def _operation_id(method: str, path: str) -> str:
    words = [word.strip("{}").replace("-", "_") for word in path.strip("/").split("/")]
    return "_".join([method.lower(), *words])


def json_response(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as the body, serialised once."""
    return Response(model.__pydantic_serializer__.to_json(model), status, headers, JSON)


def etag(revision: int) -> str:
    """The ETag of a revision. Weak: the same revision may be written in another order of keys."""
    return f'W/"{revision}"'


def answer_with_etag(request: Request, model: BaseModel, revision: int) -> Response:
    """200 with the thing, or 304 when the client has this revision already."""
    tag = etag(revision)
    wanted = request.headers.get("if-none-match")
    if wanted is not None and (wanted.strip() == "*" or tag in (part.strip() for part in wanted.split(","))):
        return Response(status_code=304, headers={"ETag": tag})
    return json_response(model, headers={"ETag": tag, "Cache-Control": "no-cache"})


__all__ = ["API", "PathRef", "ProblemDocument", "Routes", "Wait", "answer_with_etag", "errors", "etag", "json_response"]
