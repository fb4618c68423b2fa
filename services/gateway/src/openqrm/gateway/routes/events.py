"""Events: a page of the past, or live by SSE and WebSocket."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field, JsonValue
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from openqrm.bus.streams import EVENTS
from openqrm.gateway.auth.authenticator import Authenticator, check_same_origin
from openqrm.gateway.auth.principal import CredentialKind
from openqrm.gateway.auth.roles import WEBSOCKET_ACCESS
from openqrm.gateway.events.event import LiveEvent
from openqrm.gateway.events.filters import EventFilter, make_filter
from openqrm.gateway.events.hub import EventHub, gap_before
from openqrm.gateway.events.reader import StreamReader
from openqrm.gateway.events.sse import EventStreamResponse
from openqrm.gateway.events.websocket import EventSocket
from openqrm.gateway.guard import Guard, principal_of
from openqrm.gateway.problems import invalid, problem_response
from openqrm.gateway.routing import API, Routes

SOCKET_PATH = f"{API}/events/ws"
MAX_EVENTS = 1000
_SCAN_PIECES = 10
"""With a filter by resource a page looks through this many pieces of the stream at the most."""
STANDING_CHECKS = 4
"""An open stream's login is looked at again every so many keep-alives."""


class EventView(BaseModel):
    """A fact that happened."""

    sequence: int = Field(description="Its place in the stream; resume with since=<sequence>")
    subject: str = Field(examples=["partition.started"])
    time: str | None
    about: str | None = Field(description="Id of the thing that it is about")
    data: JsonValue
    unreadable: bool = Field(default=False, description="What was sent is not JSON and is left out: `data` is null")


class EventPage(BaseModel):
    """A piece of the past."""

    items: tuple[EventView, ...]
    next_since: int = Field(description="Go on with since=<this>")
    first_available: int = Field(description="The oldest event that is kept")
    last: int = Field(description="The newest event")
    gap: str | None = Field(description="Set when events after `since` are no longer kept: what is missing, and why")


def add(
    routes: Routes,
    hub: EventHub,
    reader: StreamReader,
    authenticator: Authenticator,
    keepalive_seconds: float,
) -> None:
    """Add the routes."""

    async def events(
        request: Request,
        subject: Annotated[
            list[str],
            Query(
                description="Subjects, with `*` for one word and `>` for all that follow, such as `partition.*`; "
                "may be repeated",
                max_length=50,
            ),
        ] = [],  # noqa: B006 - FastAPI copies it
        resource: Annotated[
            list[str],
            Query(description="Ids of which one must occur in the event; may be repeated", max_length=500),
        ] = [],  # noqa: B006
        since: Annotated[
            int | None, Query(ge=0, description="Only what came after this sequence number (also: Last-Event-ID)")
        ] = None,
        last: Annotated[
            int | None, Query(ge=1, le=MAX_EVENTS, description="Look through this many newest only")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
        follow: Annotated[
            bool, Query(description="Go on with what happens from now on, as Server-Sent Events")
        ] = False,
    ) -> Response:
        """Events.

        A page of JSON; with `follow=true` or `Accept: text/event-stream` a stream of Server-Sent Events, each with its
        sequence number as id. Without `since` a page begins with the oldest event that is kept, and a stream with the
        next one to happen. Special stream events: `gap` (something is no longer kept) and `dropped` (this is the end,
        and why). The same by WebSocket: `/api/v1/events/ws`, with the same parameters.
        """
        principal = principal_of(request)
        wanted = make_filter(subject, resource, principal.role)
        if since is None:
            since = _last_event_id(request.headers.get("last-event-id"))
        if last is not None:
            since = max(0, (await reader.state(EVENTS)).last - last)
        if follow or "text/event-stream" in request.headers.get("accept", ""):
            standing = authenticator.standing(principal, STANDING_CHECKS * keepalive_seconds)
            return EventStreamResponse(hub, wanted, hub.last if since is None else since, keepalive_seconds, standing)
        return await _page(reader, wanted, since, limit)

    routes.add("GET", "/events", events, tag="events", answer=EventPage, fails=(422,))


async def _page(reader: StreamReader, wanted: EventFilter, since: int | None, limit: int) -> Response:
    kept = await reader.state(EVENTS)
    gap = None
    if since is None:
        since = kept.first - 1
    elif missing := gap_before(since, kept):
        gap, since = missing.detail, missing.first_available - 1
    found: list[LiveEvent] = []
    for _ in range(_SCAN_PIECES):
        piece = await reader.read(EVENTS, since + 1, limit if not wanted.resources else MAX_EVENTS, wanted.subjects)
        for event in map(LiveEvent, piece.messages):
            if wanted.passes(event):
                found.append(event)
                if len(found) == limit:
                    break
        since = found[-1].sequence if len(found) == limit else piece.read_to
        if len(found) == limit or piece.complete:
            break
    page = EventPage(items=(), next_since=since, first_available=kept.first, last=kept.last, gap=gap)
    body = (
        page.model_dump_json()
        .encode()
        .replace(b'"items":[]', b'"items":[' + b",".join(e.json for e in found) + b"]", 1)
    )
    return Response(body, media_type="application/json")


def _last_event_id(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) < 19 else None


async def serve_events(socket: WebSocket, guard: Guard, events: EventSocket, hub: EventHub,
                       authenticator: Authenticator, keepalive_seconds: float) -> None:  # fmt: skip
    """The WebSocket of events; refused with a problem document."""
    try:
        needed = WEBSOCKET_ACCESS[SOCKET_PATH]
        assert needed is not None  # noqa: S101 - by the table
        principal = await guard.admit(socket.headers, needed, SOCKET_PATH)
        if principal.kind is CredentialKind.SESSION:
            check_same_origin(socket.headers, socket.url.scheme)
        query: QueryParams = socket.query_params
        if unknown := set(query) - {"subject", "resource", "since"}:
            raise invalid(min(unknown), "is not known here; there are subject, resource and since")
        wanted = make_filter(query.getlist("subject"), query.getlist("resource"), principal.role)
        text = query.get("since") or socket.headers.get("last-event-id")
        since = _last_event_id(text)
        if text is not None and since is None:
            raise invalid("since", "must be a sequence number: digits only")
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a problem document
        await socket.send_denial_response(problem_response(error, SOCKET_PATH))
        return
    standing = authenticator.standing(principal, STANDING_CHECKS * keepalive_seconds)
    await events.serve(socket, standing, wanted, hub.last if since is None else since)
