"""A small typed client of the gateway."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from qemu_lab import Lab

from openqrm.contracts.host import HostView
from openqrm.contracts.mac import MacView
from openqrm.contracts.operation import OperationView
from openqrm.contracts.partition import PartitionView, StrangerView
from openqrm.contracts.states import FINAL_OPERATION_STATES, OperationState
from product.waiting import sleep

API = "/api/v1"
WAIT_SECONDS = 25
"""How long one request waits for an operation's end."""
PATIENCE_SECONDS = 120.0

Body = Mapping[str, Any]


class RefusedError(Exception):
    """The gateway answered with a problem document."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(f"{status} {document.get('code')}: {document.get('detail')}")
        self.status = status
        self.document = document
        self.code: str = document.get("code", "")
        self.detail: str = document.get("detail", "")


class OperationFailedError(Exception):
    """An operation ended without success."""

    def __init__(self, operation: OperationView) -> None:
        sentence = operation.error.message if operation.error else "no error is given"
        super().__init__(f"{operation.verb} of {operation.target_name!r} {operation.state}: {sentence}")
        self.operation = operation
        self.code = operation.error.code.value if operation.error else ""
        self.sentence = sentence


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    media_type: str
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def segment(ref: object) -> str:
    """A name or an id as one part of a path."""
    return quote(str(ref), safe="")


class Gateway:
    """Speaks HTTP to the gateway from the controller's network, with the administrator's token."""

    def __init__(self, lab: Lab, port: int, token: str) -> None:
        self._lab = lab
        self.port = port
        self._token = token

    # ------------------------------------------------------------------------------------------ requests

    def request(
        self,
        method: str,
        path: str,
        body: Body | bytes | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. Raises RefusedError for every status from 400 on."""
        given = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        data: bytes | None = None
        if isinstance(body, bytes):
            data = body
            given["Content-Type"] = "application/octet-stream"
        elif body is not None:
            data = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        target = f"{API}{path}" + (f"?{urlencode(query)}" if query else "")
        connection = self._lab.http(self.port, timeout=WAIT_SECONDS + 35.0)
        try:
            connection.request(method, target, data, given)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers.get_content_type(), response.read())
        finally:
            connection.close()
        if answer.status >= 400:
            document = answer.json() if answer.media_type.endswith("json") else {"detail": answer.body[:500].decode()}
            raise RefusedError(answer.status, document)
        return answer

    def is_there(self) -> bool:
        """Whether it answers and inventory behind it does."""
        try:
            self.request("GET", "/technologies")
        except (OSError, HTTPException, RefusedError):
            return False
        return True

    def get(self, path: str, **query: Any) -> Any:
        """Read something."""
        return self.request("GET", path, query=query or None).json()

    # ------------------------------------------------------------------------------------------ operations

    def begin(self, method: str, path: str, body: Body | None = None, **query: Any) -> OperationView:
        """Send a command, and return its operation at once."""
        return OperationView.model_validate(self.request(method, path, body, query=query or None).json())

    def end(self, operation: OperationView, seconds: float = PATIENCE_SECONDS) -> OperationView:
        """Wait for an operation's end, whatever it is."""
        limit = time.monotonic() + seconds
        while operation.state not in FINAL_OPERATION_STATES:
            left = limit - time.monotonic()
            assert left > 0, f"{operation.verb} has not ended after {seconds:g} s: {operation.state}, {operation.step}"
            operation = self.operation(operation.id, max(1, min(WAIT_SECONDS, int(left))))
        return operation

    def finish(self, operation: OperationView, seconds: float = PATIENCE_SECONDS) -> OperationView:
        """Wait for an operation's success. Raises OperationFailedError when it ends otherwise."""
        operation = self.end(operation, seconds)
        if operation.state is not OperationState.SUCCEEDED:
            raise OperationFailedError(operation)
        return operation

    def do(
        self, method: str, path: str, body: Body | None = None, *, seconds: float = PATIENCE_SECONDS, **query: Any
    ) -> OperationView:
        """Send a command and wait for its success."""
        return self.finish(self.begin(method, path, body, **query), seconds)

    def operation(self, operation_id: UUID, wait: int = 0) -> OperationView:
        """An operation as it is, or as soon as it has ended within `wait` seconds."""
        return OperationView.model_validate(self.get(f"/operations/{operation_id}", wait=wait))

    def operations(self, target_id: UUID) -> list[OperationView]:
        """The operations on one thing, the newest first."""
        page = self.get("/operations", target_id=target_id, limit=100)
        return [OperationView.model_validate(item) for item in page["items"]]

    def cancel(self, operation: OperationView) -> None:
        """Ask for an operation's end."""
        self.begin("POST", f"/operations/{operation.id}/cancel")

    # ------------------------------------------------------------------------------------------ things

    def partition(self, ref: object) -> PartitionView:
        """A partition by id or name."""
        return PartitionView.model_validate(self.get(f"/partitions/{segment(ref)}"))

    def partitions(self, **query: Any) -> list[PartitionView]:
        """Partitions; deleted ones are left out."""
        page = self.get("/partitions", limit=100, **query)
        return [PartitionView.model_validate(item) for item in page["items"]]

    def host(self, ref: object) -> HostView:
        """A host by id or name."""
        return HostView.model_validate(self.get(f"/hosts/{segment(ref)}"))

    def strangers(self, host: str) -> list[StrangerView]:
        """The strangers on a host."""
        return [StrangerView.model_validate(item) for item in self.get(f"/hosts/{segment(host)}/strangers")["items"]]

    def mac(self, address: str) -> MacView | None:
        """What is known of a MAC address; None: it is free."""
        cursor: str | None = None
        while True:
            page = self.get("/macs", limit=100, **({"cursor": cursor} if cursor else {}))
            for item in page["items"]:
                if item["mac"] == address:
                    return MacView.model_validate(item)
            cursor = page["next_cursor"]
            if cursor is None:
                return None

    def when_idle(self, ref: object, seconds: float = PATIENCE_SECONDS) -> PartitionView:
        """A partition once no operation is at work on it."""
        end = time.monotonic() + seconds
        while (partition := self.partition(ref)).operation_id is not None:
            assert time.monotonic() < end, f"{partition.name!r} is still busy with {partition.operation_id}"
            sleep(0.2)
        return partition
