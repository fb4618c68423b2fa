"""Operations, and the dead letters of those that never became one."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts.dead_letter import DiscardMessage, ListDeadLetters, ReplayMessage
from openqrm.contracts.operation import CancelOperation, ListOperations, OperationView
from openqrm.gateway.commands import wish_of
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import Wait, answer_with_etag


def add(nouns: Nouns) -> None:
    """Add the routes."""

    async def one(request: Request, id: UUID, wait: Wait = 0) -> Response:  # noqa: A002 - the path's word
        """One operation.

        With `wait`, as soon as it has ended or the time is over.
        """
        operation = await nouns.commands.read(id, wish_of(request, wait).wait_seconds)
        return answer_with_etag(request, operation, operation.revision)

    nouns.many("/operations", ListOperations, tag="operations")
    nouns.routes.add("GET", "/operations/{id}", one, tag="operations", answer=OperationView)
    nouns.command("POST", "/operations/{id}/cancel", CancelOperation, tag="operations",
                  from_path={"id": "target_operation_id"})  # fmt: skip
    nouns.many("/dead-letters", ListDeadLetters, tag="dead letters")
    nouns.command("POST", "/dead-letters/{id}/replay", ReplayMessage, tag="dead letters",
                  from_path={"id": "letter_id"})  # fmt: skip
    nouns.command("POST", "/dead-letters/{id}/discard", DiscardMessage, tag="dead letters",
                  from_path={"id": "letter_id"})  # fmt: skip
