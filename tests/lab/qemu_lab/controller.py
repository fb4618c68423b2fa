"""The controller's side: being in the lab's network without being a host of it."""

import ctypes
import http.client
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def in_namespace(file: Path, action: Callable[[], T]) -> T:
    """Runs `action` in a thread inside a network namespace and returns what it returns, or raises what it raises.

    Sockets that it opens stay in that namespace for good, wherever they are used later; so do threads that it starts.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            with file.open() as namespace:
                # Python has os.setns only since 3.12. It changes the calling thread alone.
                if _libc.setns(namespace.fileno(), _NEW_NETWORK) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(file))
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=body, name="in-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class ControllerConnection(http.client.HTTPConnection):
    """An HTTP connection to a server in the controller's namespace; used like `http.client.HTTPConnection`."""

    def __init__(self, namespace: Path, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._namespace = namespace

    def connect(self) -> None:
        """Connects from inside the namespace."""
        address = (self.host, self.port)
        self.sock = in_namespace(self._namespace, lambda: socket.create_connection(address, self.timeout))
