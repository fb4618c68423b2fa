"""The lab of tests/lab with openQRM running in it; everything here blocks and belongs into a thread."""

import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_LAB = Path(__file__).resolve().parents[2] / "lab"
if str(_LAB) not in sys.path:
    sys.path.append(str(_LAB))

from product import Guest, Product, Site  # noqa: E402 - from the folder just named
from product.running import HTTP_PORT  # noqa: E402
from product.site import build_image  # noqa: E402
from qemu_lab import Lab  # noqa: E402
from qemu_lab.plan import Folder  # noqa: E402

from openqrm.contracts.operation import OperationView  # noqa: E402

__all__ = ["Guest", "Laboratory", "OperationView"]
WAIT_SECONDS = 150.0


class Laboratory:
    """Three hypervisors in namespaces, enrolled in an openQRM of their own; beside a lab that runs by hand."""

    def __init__(self) -> None:
        by_hand = Folder.from_environment().path
        folder = Folder(by_hand.with_name(f"{by_hand.name}-bench"))
        self._image_folder = by_hand.with_name(f"{by_hand.name}-image")
        self.lab = Lab(folder)
        self._product = Product(self.lab, folder.path / "product")
        self.site: Site
        self._kept = threading.local()

    def start(self) -> None:
        """Bring everything up."""
        image = build_image(self._image_folder)
        self.lab.down()
        self._product.forget()
        self.lab.up(3)
        self._product.start()
        self.site = Site(self.lab, self._product)
        self.site.set_up(image)

    def close(self) -> None:
        """End it without a trace."""
        try:
            self._product.stop()
        finally:
            self.lab.down()
            self._product.forget()
            self.lab.down()  # its folder, which is empty now

    def do(self, guest: Guest, verb: str, **body: object) -> OperationView:
        """One verb by one request, which is answered at the operation's end; RuntimeError unless it succeeded."""
        operation = self._send(f"{guest.path}/{verb}?wait=120", body)
        if operation.state.value != "succeeded":
            raise RuntimeError(f"{verb} of {guest.name}: {operation.state.value} {operation.error or operation.step}")
        return operation

    def _send(self, path: str, body: Mapping[str, object]) -> OperationView:
        """One request on the connection that this thread keeps, as bare libvirt's is kept."""
        if not hasattr(self._kept, "connection"):
            self._kept.connection = self.lab.http(HTTP_PORT, timeout=WAIT_SECONDS)
        headers = {"Authorization": f"Bearer {self._product.token}", "Content-Type": "application/json"}
        self._kept.connection.request("POST", f"/api/v1{path}", json.dumps(body), headers)
        response = self._kept.connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            raise RuntimeError(f"POST {path}: {response.status} {answer[:300].decode(errors='replace')}")
        return OperationView.model_validate_json(answer)

    def spans(self, operations: list[OperationView]) -> list[list[dict[str, object]]]:
        """The spans of each operation."""
        return [self.site.gateway.get(f"/traces/{operation.id}")["spans"] for operation in operations]
