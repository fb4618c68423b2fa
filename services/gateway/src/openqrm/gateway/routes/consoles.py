"""What the guest shows: tickets for its consoles, and a picture of its screen."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from openqrm.contracts.clock import Clock
from openqrm.contracts.console import ConsoleKind, TakeScreenshot
from openqrm.contracts.partition import GetPartition
from openqrm.gateway.adapters.tickets import Ticket, Tickets
from openqrm.gateway.console import Consoles, place_of
from openqrm.gateway.guard import note_of, principal_of
from openqrm.gateway.problems import HttpError, problem_response
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import API, PathRef, json_response

TAG = "partitions"
SCREENSHOT_SECONDS = 20.0


class ConsoleTicketBody(BaseModel):
    """Which console."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kind": "serial"}]})

    kind: ConsoleKind = ConsoleKind.SERIAL


class ConsoleTicketView(BaseModel):
    """The right to open one console, once."""

    ticket: str
    kind: ConsoleKind
    path: str = Field(description="Address of the WebSocket on this server; bytes go by binary frames")
    expires_at: datetime


def add(nouns: Nouns, tickets: Tickets, consoles: Consoles, clock: Clock, ticket_seconds: float) -> None:
    """Add the routes."""

    async def give(request: Request, ref: PathRef, body: ConsoleTicketBody | None = None) -> Response:
        """A ticket for a console.

        It opens one WebSocket, once, and soon ends. Bytes go both ways by binary frames; `serial` is the guest's
        serial line, `vnc` the RFB protocol (subprotocol `binary`). No reply and close code 4000: the guest's side
        ended; 4001: the connection broke, open it again.
        """
        kind = (body or ConsoleTicketBody()).kind
        note_of(request).verb, note_of(request).target = "console.open", ref
        partition = await nouns.questions.ask(GetPartition(partition=ref))
        note_of(request).target = str(partition.id)
        await consoles.check(partition, kind)
        secret = await tickets.give(Ticket(principal_of(request).user, partition.id, kind), ticket_seconds)
        return json_response(
            ConsoleTicketView(
                ticket=secret,
                kind=kind,
                path=f"{API}/console/{secret}",
                expires_at=clock.now() + timedelta(seconds=ticket_seconds),
            ),
            201,
            {"Cache-Control": "no-store"},
        )

    async def screenshot(ref: PathRef) -> Response:
        """A picture of a running partition's screen."""
        partition = await nouns.questions.ask(GetPartition(partition=ref))
        host_id, technology = place_of(partition, "screen")
        picture = await nouns.questions.ask(
            TakeScreenshot(host_id=host_id, technology=technology, partition_id=partition.id), SCREENSHOT_SECONDS
        )
        return Response(picture.picture, media_type=picture.media_type, headers={"Cache-Control": "no-store"})

    nouns.routes.add("POST", "/partitions/{ref}/console-tickets", give, tag=TAG, answer=ConsoleTicketView,
                     status=201, fails=(409,))  # fmt: skip
    nouns.routes.add("GET", "/partitions/{ref}/screenshot", screenshot, tag=TAG, fails=(409,),
                     responses={200: {"content": {"image/png": {}}, "description": "The picture"}})  # fmt: skip


async def serve_console(socket: WebSocket, tickets: Tickets, consoles: Consoles) -> None:
    """The WebSocket of a console; refused with a problem document when its ticket or its guest says so."""
    try:
        ticket = await tickets.take(socket.path_params["ticket"])
        if ticket is None:
            raise HttpError(
                403, "forbidden",
                "This console ticket was used, is too old, or never was one. Ask for a new one.",
            )  # fmt: skip
        await consoles.serve(socket, ticket)
    except Exception as error:
        if socket.client_state.name != "CONNECTING":
            raise
        await socket.send_denial_response(problem_response(error, f"{API}/console"))
