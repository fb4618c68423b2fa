"""One libvirt connection with its tunnel and its thread.

One thread: libvirt's client library before 10.0 can lose the wake-up of a second thread that makes a call on the
same connection, which then waits until the host happens to say something.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import libvirt

from openqrm.executor_qemu.event_loop import start_event_loop
from openqrm.executor_qemu.naming import PROBE_NAME_PREFIX
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.tunnels import Tunnel
from openqrm.executor_qemu.workers import Worker

T = TypeVar("T")

DomainEvent = Callable[[str, str], None]
"""Called with a domain's UUID and what happened, from libvirt's thread."""

_LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "paused",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shut down",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "suspended by its guest",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
}

_STOPPED = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shut down by its guest",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "stopped by force",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "its guest crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "moved away",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved to disk",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "its QEMU process ended by itself",
}

REBOOTED = "rebooted"

_OTHER_EVENTS = {
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: REBOOTED,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE: "memory changed",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: "device added",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: "device removed",
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: "disk error",
}


def lifecycle_words(event: int, detail: int) -> str:
    """What a lifecycle event says, in words."""
    words = _LIFECYCLE.get(event, f"event {event}")
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail in _STOPPED:
        return f"{words}: {_STOPPED[detail]}"
    return words


class Session:
    """Runs calls on one libvirt connection, one after the other, in a thread and with a time limit."""

    def __init__(self, tunnel: Tunnel, worker: Worker) -> None:
        self._tunnel = tunnel
        self._worker = worker
        self._connection: Any = None
        self._callbacks: list[int] = []
        self._closed = False
        self._inside = 0
        self._left = threading.Condition()
        self.lost = False
        """The connection broke."""
        self.on_close: Callable[[], None] | None = None
        """Called once it is closed: libvirt tells nothing of that to the streams on it."""

    @classmethod
    async def open(
        cls,
        tunnel: Tunnel,
        name: str,
        settings: QemuSettings,
        on_lost: Callable[["Session"], None],
        on_event: DomainEvent | None = None,
    ) -> "Session":
        """Connect through the tunnel. Raises libvirtError or TimeoutError; the tunnel is cut then."""
        start_event_loop()
        session = cls(tunnel, Worker(name))
        loop = asyncio.get_running_loop()

        def lost() -> None:
            if not session._closed:
                session.lost = True
                on_lost(session)

        def lost_callback(_connection: object, _reason: int, _opaque: object) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lost)

        def connect() -> None:
            connection = libvirt.open(f"qemu+unix:///system?mode=direct&socket={tunnel.path}")
            connection.setKeepAlive(settings.keepalive_seconds, settings.keepalive_count)
            connection.registerCloseCallback(lost_callback, None)
            if on_event is not None:
                session._callbacks = _register_events(connection, loop, on_event)
            session._connection = connection

        def inside() -> None:
            with session.held():
                connect()

        try:
            await session._worker.run(inside, settings.connect_timeout_seconds)
        except BaseException:
            session.close()
            raise
        return session

    @property
    def usable(self) -> bool:
        """Whether new calls may be made on it."""
        return not (self.lost or self._closed)

    @contextlib.contextmanager
    def held(self) -> Iterator[Any]:
        """The libvirt connection, kept in memory as long as the context; for calls in threads.

        libvirt frees a connection that is closed even while another thread is inside one of its calls.
        """
        with self._left:
            if self._closed:
                raise ConnectionError("the connection to the host was closed meanwhile")
            self._inside += 1
        try:
            yield self._connection
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()

    async def run(self, function: Callable[[Any], T], timeout: float | None) -> T:
        """Run `function(connection)` in a thread. Raises libvirtError, ConnectionError when it is closed,
        or TimeoutError while the call may still hang.
        """

        def inside() -> T:
            with self.held() as connection:
                return function(connection)

        if self._closed:
            raise ConnectionError("the connection to the host is closed")
        return await self._worker.run(inside, timeout)

    def close(self) -> None:
        """End it at once; harmless when repeated."""
        with self._left:
            if self._closed:
                return
            self._closed = True
        # With the tunnel cut, every call that is under way ends.
        self._tunnel.cut()
        closer = Worker("libvirt-close")
        closer.submit(self._forget)
        closer.stop()
        self._worker.stop()
        if self.on_close is not None:
            self.on_close()

    def _forget(self) -> None:
        with self._left:
            self._left.wait_for(lambda: self._inside == 0)
        if self._connection is None:
            return
        for callback in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(callback)
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()


def _register_events(connection: Any, loop: asyncio.AbstractEventLoop, on_event: DomainEvent) -> list[int]:
    def tell(domain: Any, words: str) -> None:
        with contextlib.suppress(RuntimeError, libvirt.libvirtError):
            if not domain.name().startswith(PROBE_NAME_PREFIX):
                loop.call_soon_threadsafe(on_event, domain.UUIDString(), words)

    def on_lifecycle(_connection: object, domain: Any, event: int, detail: int, _opaque: object) -> None:
        tell(domain, lifecycle_words(event, detail))

    def on_other(_connection: object, domain: Any, *details: Any) -> None:
        tell(domain, str(details[-1]))

    callbacks = [connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_lifecycle, None)]
    callbacks += [
        connection.domainEventRegisterAny(None, kind, on_other, words) for kind, words in _OTHER_EVENTS.items()
    ]
    return callbacks
