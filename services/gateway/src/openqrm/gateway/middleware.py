"""Around every request: its span, its metrics, the limit of its body and the headers of its answer. Pure ASGI."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from urllib.parse import unquote

from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openqrm.contracts.clock import Clock
from openqrm.gateway.auth.roles import WEBSOCKET_ACCESS
from openqrm.gateway.problems import HttpError, problem_response
from openqrm.telemetry.metrics import HTTP_SECONDS
from openqrm.telemetry.tracing import Tracing, current_trace_id, inject

STREAMING = "openqrm.streaming"
"""Set in the scope of a request whose answer lasts as long as its client likes: its duration says nothing."""

ESCAPED_SLASH = "\x00"
"""Stands for a slash inside of a path's segment, as in the name `a/b`; no name may contain the character itself."""

DISCARD_SECONDS = 2.0
"""For how long the rest of a body that is too large is taken and thrown away."""

UNLIMITED = frozenset({("POST", "/api/v1/images")})
"""Bodies that are read piece by piece; their routes have limits of their own."""

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, tracing: Tracing, clock: Clock, body_max_bytes: int, tls: bool) -> None:
        self._app = app
        self._tracing = tracing
        self._clock = clock
        self._limit = body_max_bytes
        self._headers = [*_SECURITY_HEADERS, _HSTS] if tls else _SECURITY_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        _keep_escaped_slashes(scope)
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        await self._http(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One span for the opening, up to the acceptance or the refusal, and one for the end, however late that is.

        A span is told when it ends: one for the whole connection would be missed for as long as that lasts.
        """
        name = f"WEBSOCKET {_socket_route(scope['path'])}"
        started = self._clock.monotonic()
        closed: dict[str, str | int] = {}
        opened = ""
        with ExitStack() as opening:
            span = opening.enter_context(self._tracing.span(name, SpanKind.SERVER, _carrier(scope)))

            async def send_and_tell(message: Message) -> None:
                nonlocal opened
                kind = message["type"]
                if kind == "websocket.accept":
                    span.set_attribute("http.response.status_code", 101)
                    opened = inject({}).get("traceparent", "")
                elif kind == "websocket.http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                elif kind == "websocket.close":
                    closed.update({"code": message.get("code", 1000), "reason": message.get("reason") or ""})
                if kind in ("websocket.accept", "websocket.http.response.start"):
                    opening.close()
                await send(message)

            await self._app(scope, receive, send_and_tell)
        if opened:
            with self._tracing.span(f"{name} ended", SpanKind.SERVER, {"traceparent": opened}) as end:
                end.set_attribute("websocket.seconds", round(self._clock.monotonic() - started, 3))
                end.set_attributes({f"websocket.close_{key}": value for key, value in closed.items()})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        started = self._clock.monotonic()
        status = 0
        with self._tracing.span(method, SpanKind.SERVER, _carrier(scope)) as span:
            extra = self._headers
            trace_id = current_trace_id()
            if trace_id:
                extra = [*extra, (b"x-request-id", trace_id.encode())]

            async def send_with_headers(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message = {**message, "headers": [*message.get("headers", ()), *extra]}
                await send(message)

            try:
                if (method, scope["path"]) in UNLIMITED:
                    await self._app(scope, receive, send_with_headers)
                else:
                    self._check_length(scope)
                    await self._app(scope, _Counted(receive, self._limit), send_with_headers)
            except Exception as error:
                response = problem_response(error, scope["path"])
                if status == 0:
                    if isinstance(error, HttpError) and error.status == 413:
                        await _discard(scope, receive)
                    await response(scope, receive, send_with_headers)
                else:
                    raise
            finally:
                route = getattr(scope.get("route"), "path_format", "unknown")
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR, f"HTTP {status}"))
                if not scope.get(STREAMING):
                    HTTP_SECONDS.labels(method if method in _METHODS else "other", route, str(status)).observe(
                        self._clock.monotonic() - started
                    )

    def _check_length(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                raise too_large(self._limit)


async def _discard(scope: Scope, receive: Receive) -> None:
    """Take what is still on its way, for a moment, and throw it away.

    A connection that is closed with bytes unread is reset, and the client never reads why it was refused.
    """
    if any(name == b"expect" for name, _ in scope["headers"]):
        return  # it waits for our word before it sends anything
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class _Counted:
    """Receives a body as long as it is within the limit, whatever its length was said to be."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise too_large(self._limit)
        return message


def too_large(limit: int) -> HttpError:
    """413."""
    return HttpError(
        413,
        "too-large",
        f"The request's body is larger than {limit} bytes, the most that is taken here. Send less.",
        details={"limit_bytes": limit},
        headers={"Connection": "close"},
    )


def _carrier(scope: Scope) -> Mapping[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }


_SOCKETS = {path: compile_path(path)[0] for path in WEBSOCKET_ACCESS}


def _socket_route(path: str) -> str:
    """The route of a WebSocket's address; a console's address itself is a secret."""
    return next((route for route, pattern in _SOCKETS.items() if pattern.match(path)), "unknown")


_SLASH = re.compile(rb"%2f", re.IGNORECASE)


def _keep_escaped_slashes(scope: Scope) -> None:
    raw = scope.get("raw_path")
    if raw and _SLASH.search(raw):
        # raw_path can be outside of ASCII when a client does not escape; those bytes are UTF-8, as in `path`
        scope["path"] = unquote(_SLASH.sub(b"%00", raw.split(b"?")[0]).decode("utf-8", "replace"))
