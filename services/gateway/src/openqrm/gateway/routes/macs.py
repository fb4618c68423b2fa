"""MAC addresses: given out and taken back at once, without an operation."""

from typing import Annotated
from uuid import UUID, uuid5

from fastapi import Body
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts.ids import is_id, new_id
from openqrm.contracts.mac import AllocateMac, ListMacs, MacAllocation, MacRelease, ReleaseMac
from openqrm.gateway.bodies import body_model, given
from openqrm.gateway.guard import note_of, principal_of
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import PathRef, json_response

TAG = "mac addresses"
_REQUESTS = UUID("5b0c2f0e-6a0b-5f0e-9d7c-7c8f5a0f8d11")


def add(nouns: Nouns) -> None:
    """Add the routes."""
    allocation = body_model(AllocateMac, {"request_id"}, [{"technology": "qemu", "note": "printer"}])

    async def allocate(request: Request, body: BaseModel) -> Response:
        """Take a free address of a technology's range, or a wished one if it is free.

        The same Idempotency-Key twice gives the same address.
        """
        key = request.headers.get("idempotency-key", "").strip()[:200]
        user = principal_of(request).user
        request_id = UUID(key) if is_id(key) else uuid5(_REQUESTS, f"{user}\n{key}") if key else new_id()
        note_of(request).verb = AllocateMac.subject
        answer = await nouns.questions.ask(AllocateMac(request_id=request_id, **given(body)))
        note_of(request).target = answer.mac
        return json_response(answer, 201)

    allocate.__annotations__["body"] = Annotated[allocation, Body()]

    async def release(request: Request, mac: PathRef) -> Response:
        """Give an address back; it rests in quarantine before it is given out again."""
        note = note_of(request)
        note.verb, note.target = ReleaseMac.subject, mac
        released = await nouns.questions.ask(ReleaseMac(mac=mac))
        return json_response(released)

    nouns.many("/macs", ListMacs, tag=TAG)
    nouns.routes.add("POST", "/macs", allocate, tag=TAG, answer=MacAllocation, status=201, fails=(404, 409))
    nouns.routes.add("DELETE", "/macs/{mac}", release, tag=TAG, answer=MacRelease, fails=(404, 409))
