"""About the server itself: health, metrics, documentation and the page at `/`."""

import json
from collections.abc import Awaitable, Callable
from functools import cache

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, Response

from openqrm.bus.asyncapi import make_document
from openqrm.gateway.pages.render import STYLE, docs_page, login_page
from openqrm.gateway.routing import Routes, json_response
from openqrm.telemetry.metrics import CONTENT_TYPE, render_metrics

TAG = "about"


class Health(BaseModel):
    """Whether the gateway can do its work."""

    status: str = Field(examples=["ok"])
    bus: bool = Field(description="Whether NATS is reachable and has what it should")
    database: bool = Field(description="Whether PostgreSQL is reachable")
    detail: str = Field(default="", description="What is wrong, in a sentence")


def add(routes: Routes, app: FastAPI, health: Callable[[], Awaitable[Health]]) -> None:
    """Add the routes."""

    async def index() -> HTMLResponse:
        """What runs here."""
        return login_page()

    async def style() -> Response:
        """The pages' style sheet."""
        return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    async def get_health() -> Response:
        """Whether the gateway can do its work: 200, or 503 when the bus or the database is away."""
        state = await health()
        return json_response(state, 200 if state.status == "ok" else 503, {"Cache-Control": "no-store"})

    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(render_metrics(), media_type=CONTENT_TYPE)

    async def openapi() -> Response:
        """This API as an OpenAPI document."""
        return Response(_openapi(), media_type="application/json")

    async def docs() -> HTMLResponse:
        """This API's documentation."""
        return docs_page(app.openapi())

    async def asyncapi() -> Response:
        """The messages on the bus as an AsyncAPI document."""
        return Response(_asyncapi(), media_type="application/json")

    @cache
    def _openapi() -> bytes:
        return json.dumps(app.openapi()).encode()

    @cache
    def _asyncapi() -> bytes:
        return json.dumps(make_document(app.version)).encode()

    routes.add("GET", "/", index, tag=TAG, prefix="", in_document=False)
    routes.add("GET", "/style.css", style, tag=TAG, prefix="", in_document=False)
    routes.add("GET", "/health", get_health, tag=TAG, prefix="", answer=Health)
    routes.add("GET", "/metrics", metrics, tag=TAG, prefix="",
               responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}})  # fmt: skip
    routes.add("GET", "/openapi.json", openapi, tag=TAG)
    routes.add("GET", "/docs", docs, tag=TAG, responses={200: {"content": {"text/html": {}}, "description": "A page"}})
    routes.add("GET", "/asyncapi", asyncapi, tag=TAG)
