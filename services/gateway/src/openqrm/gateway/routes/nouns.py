"""The two shapes that most routes have: a command on a thing, and a question about things."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Body, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts import message as messages
from openqrm.contracts.message import Command
from openqrm.contracts.operation import OperationView
from openqrm.gateway.ask import Questions
from openqrm.gateway.bodies import as_query, body_model, filter_model, given, needs_body
from openqrm.gateway.commands import Commands, wish_of
from openqrm.gateway.routing import PathRef, Routes, Wait, answer_with_etag, json_response

_HEADERS = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "maxLength": 200},
            "description": "The same key twice gives one operation. A UUID becomes the operation's id.",
        },
        {
            "name": "If-Match",
            "in": "header",
            "schema": {"type": "string"},
            "description": "The ETag that the thing must still have; otherwise 412.",
        },
        {
            "name": "Prefer",
            "in": "header",
            "schema": {"type": "string"},
            "description": "`wait=N`: the same as the parameter `wait`.",
        },
    ]
}


@dataclass(frozen=True)
class Nouns:
    """Declares command and query routes."""

    routes: Routes
    commands: Commands
    questions: Questions

    def command(
        self,
        method: str,
        path: str,
        command: type[Command],
        *,
        tag: str,
        from_path: Mapping[str, str] | None = None,
        from_query: Sequence[str] = (),
        examples: list[dict[str, Any]] | None = None,
        target: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        """A route that sends a command.

        `from_path`: parameter of the path → field of the command. `from_query`: fields that come as URL parameters;
        a method without a body has all others left out. `target`: names in the audit what the command is about.
        """
        from_path = dict(from_path or {})
        body = body_model(command, {*from_path.values(), *from_query}, examples) if method != "DELETE" else None
        name_target = target or _first_of(from_path)

        async def endpoint(request: Request, wait: int, **given_values: Any) -> Response:
            wish = wish_of(request, wait)
            values: dict[str, Any] = {field: given_values[name] for name, field in from_path.items()}
            values |= {name: given_values[name] for name in from_query}
            values |= given(given_values.get("body"))
            values |= {"operation_id": wish.operation_id, "requested_by": wish.user}
            if "expected_revision" in command.model_fields:
                values["expected_revision"] = wish.expected_revision
            return await self.commands.send(request, command(**values), wish, name_target(values))

        parameters = [_parameter(name, PathRef) for name in from_path]
        for name in from_query:
            field = command.model_fields[name]
            kind: Any = field.annotation
            described = Annotated[kind, Query(description=field.description)]
            parameters.append(_parameter(name, described, field.default))
        if body is not None:
            default = inspect.Parameter.empty if needs_body(body) else None
            parameters.append(_parameter("body", Annotated[body if needs_body(body) else body | None, Body()], default))
        _sign(endpoint, [_parameter("request", Request), *parameters, _parameter("wait", Wait, 0)])
        text = inspect.getdoc(command) or ""
        self.routes.add(
            method,
            path,
            endpoint,
            tag=tag,
            status=202,
            answer=OperationView,
            summary=text.split("\n", 1)[0].split(":")[0].split(",")[0].rstrip("."),
            description=f"{text}\n\nPublishes the command `{command.subject}`.",
            fails=(404, 409, 412),
            responses={200: {"model": OperationView, "description": "The operation has ended (with `wait`)"}},
            extra=_HEADERS,
        )

    def one(self, path: str, query: type[messages.Query[Any]], field: str, *, tag: str, parameter: str = "ref") -> None:
        """A route that answers with one thing and its ETag."""
        answer = query.result_type()
        has_revision = "revision" in answer.model_fields

        async def endpoint(request: Request, **values: Any) -> Response:
            thing = await self.questions.ask(query(**{field: values[parameter]}))
            if has_revision:
                return answer_with_etag(request, thing, thing.revision)
            return json_response(thing)

        _sign(endpoint, [_parameter("request", Request), _parameter(parameter, PathRef)])
        text = inspect.getdoc(query) or ""
        self.routes.add("GET", path, endpoint, tag=tag, answer=answer, summary=text.rstrip("."), description=text)

    def many(
        self,
        path: str,
        query: type[messages.Query[Any]],
        *,
        tag: str,
        from_path: Mapping[str, str] | None = None,
    ) -> None:
        """A route that answers with a page of things."""
        from_path = dict(from_path or {})
        filters = filter_model(query, from_path.values())

        async def endpoint(filters: BaseModel, **values: Any) -> Response:
            question = as_query(query, filters, {field: values[name] for name, field in from_path.items()})
            return json_response(await self.questions.ask(question))

        _sign(
            endpoint,
            [_parameter(name, PathRef) for name in from_path] + [_parameter("filters", Annotated[filters, Query()])],
        )
        text = inspect.getdoc(query) or ""
        self.routes.add(
            "GET",
            path,
            endpoint,
            tag=tag,
            answer=query.result_type(),
            summary=text.split(".")[0],
            description=text,
            fails=(404, 422),
        )


def _first_of(from_path: Mapping[str, str]) -> Callable[[Mapping[str, Any]], str]:
    field = next(iter(from_path.values()), "name")
    return lambda values: str(values.get(field, ""))


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _sign(endpoint: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """Tell FastAPI what an endpoint that is made here takes."""
    required = [p for p in parameters if p.default is inspect.Parameter.empty]
    optional = [p for p in parameters if p.default is not inspect.Parameter.empty]
    endpoint.__signature__ = inspect.Signature(required + optional)  # type: ignore[attr-defined]
    endpoint.__annotations__ = {p.name: p.annotation for p in parameters}
