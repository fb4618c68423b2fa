"""A small HTTP server beside a service that runs as a process of its own: GET /health and GET /metrics.

It listens on loopback unless told otherwise and tells nothing but health and figures.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from openqrm.telemetry.metrics import CONTENT_TYPE, render_metrics

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def probe_app(trouble: Callable[[], str | None]) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """The ASGI application: health is 200, or 503 with a sentence of trouble."""

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = 404, "text/plain", b"There are only /health and /metrics here.\n"
        if scope["path"] == "/health":
            sentence = trouble()
            status, body = (200, b"ok\n") if sentence is None else (503, f"{sentence}\n".encode())
        elif scope["path"] == "/metrics":
            status, kind, body = 200, CONTENT_TYPE, render_metrics()
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def make_probe(trouble: Callable[[], str | None], host: str, port: int) -> uvicorn.Server:
    """The server; `await server.serve()` runs it, `server.should_exit = True` ends it."""
    config = uvicorn.Config(probe_app(trouble), host=host, port=port, log_config=None, lifespan="off")
    return uvicorn.Server(config)
