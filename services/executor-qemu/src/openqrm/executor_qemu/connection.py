"""The supervised connection to one host: re-made when lost, replaced when a call hangs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import libvirt

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import HostUnreachableError, OpenQrmError, PermanentError, ProblemCode, TimedOutError
from openqrm.driver.capabilities import Host
from openqrm.executor_qemu.errors import RETRY_HOST_SECONDS, code_of, translate
from openqrm.executor_qemu.lines import Line
from openqrm.executor_qemu.sessions import Session
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.tunnels import TransportLoop, Tunnel
from openqrm.executor_qemu.workers import NotStartedError

T = TypeVar("T")

DomainNews = tuple[str, str]
"""A domain's UUID and what happened to it."""

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0

_CROWDED_SECONDS = 2.0
"""A call that has not got a thread after this time gets a connection with free ones."""
_MAX_CONNECTIONS = 8
"""Connections to one host that slow or hung calls may take up, beside the one in use."""


class HostLink:
    """Everything that is held for one host: its line, its current session, who listens to its events."""

    def __init__(self, host: Host, settings: QemuSettings, clock: Clock, transport: TransportLoop) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.acceleration: str | None = None
        """kvm or tcg, once probed on the current connection."""
        self.probing = asyncio.Lock()
        """Held while the acceleration is probed."""
        self.uploading = asyncio.Lock()
        """Held while an image is looked for or uploaded, so that no image is uploaded twice at a time."""
        self._line = Line(transport, host.name, host.connection, settings)
        self._session: Session | None = None
        self._others: set[Session] = set()
        self._left_behind: list[Session] = []
        self._opening: asyncio.Task[Session] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._listeners: set[asyncio.Queue[DomainNews | HostUnreachableError]] = set()
        self._closed = False

    @property
    def line(self) -> Line:
        """The line to the host, for tunnels to its ports."""
        return self._line

    # ------------------------------------------------------------------------------------------ connecting

    async def connect(self) -> None:
        """Open the connection if there is none, and supervise it from then on."""
        await self._current()
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise-{self.host.name}")

    async def _supervise(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._current()
            except OpenQrmError:
                await self.clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY_SECONDS)
                continue
            delay = _FIRST_RETRY_SECONDS
            await self._wake.wait()
            self._wake.clear()

    async def _current(self) -> Session:
        if self._session is not None and self._session.usable:
            return self._session
        if self._closed:
            raise HostUnreachableError(f"Host '{self.host.name}' was let go of.")
        # Everybody who needs it waits for the same attempt, and nobody's time-out ends it for the others.
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_current(), name=f"open-{self.host.name}")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: asyncio.Task[Session]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()

    async def _open_current(self) -> Session:
        try:
            session = await self._open(self._on_event)
        except HostUnreachableError as error:
            self._tell_lost(error)
            raise
        self._session = session
        return session

    async def _open(self, on_event: Callable[[str, str], None] | None) -> Session:
        tunnel = await self._line.to_libvirt()
        return await self._open_through(tunnel, on_event)

    async def _open_through(self, tunnel: Tunnel, on_event: Callable[[str, str], None] | None) -> Session:
        name = self.host.name
        try:
            return await Session.open(tunnel, f"libvirt-{name}", self.settings, self._on_lost, on_event)
        except TimeoutError:
            limit = self.settings.connect_timeout_seconds
            raise HostUnreachableError(
                f"Host '{name}' accepts connections, but its libvirt did not answer within {limit:g} s.",
                retry_after=RETRY_HOST_SECONDS,
            ) from None
        except libvirt.libvirtError as error:
            problem = translate(code_of(error), str(error), "connect to libvirt", name)
            if problem.code in (ProblemCode.FORBIDDEN, ProblemCode.UNSUPPORTED):
                raise problem from error
            raise HostUnreachableError(problem.message, retry_after=RETRY_HOST_SECONDS) from error

    @contextlib.asynccontextmanager
    async def dedicated(self) -> AsyncIterator[Session]:
        """A connection of its own for something that takes long; cutting it is what ends that something."""
        session = await self._open(None)
        self._others.add(session)
        try:
            yield session
        finally:
            self._others.discard(session)
            session.close()

    async def close(self) -> None:
        """Let go of the host."""
        self._closed = True
        for task in (self._supervisor, self._opening):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OpenQrmError):
                    await task
        for session in (self._session, *self._others, *self._left_behind):
            if session is not None:
                session.close()
        self._session = None
        self._tell_lost(HostUnreachableError(f"Host '{self.host.name}' was let go of."))
        await self._line.close()

    # ---------------------------------------------------------------------------------------------- losing

    def _on_lost(self, session: Session) -> None:
        session.close()
        if session is not self._session:
            return
        self._session = None
        self.acceleration = None
        self._tell_lost(
            HostUnreachableError(f"Lost the connection to host '{self.host.name}'.", retry_after=RETRY_HOST_SECONDS)
        )
        self._wake.set()

    def _retire(self, session: Session) -> None:
        session.retire()
        self._left_behind = [one for one in self._left_behind if not one.closed and one is not session]
        if not session.closed:
            self._left_behind.append(session)
        if session is self._session:
            self._session = None
            self._wake.set()

    # ---------------------------------------------------------------------------------------------- events

    def _on_event(self, domain_id: str, words: str) -> None:
        for listener in self._listeners:
            listener.put_nowait((domain_id, words))

    def _tell_lost(self, error: HostUnreachableError) -> None:
        for listener in self._listeners:
            listener.put_nowait(error)

    @contextlib.contextmanager
    def _listening(self) -> Any:
        queue: asyncio.Queue[DomainNews | HostUnreachableError] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def news(self) -> AsyncIterator[dict[str, str]]:
        """What happens on the host, as UUID to words; what came in together comes out together.

        Raises HostUnreachableError when the host is lost.
        """
        with self._listening() as queue:
            await self._current()
            while True:
                waiting = [await queue.get()]
                while not queue.empty():
                    waiting.append(queue.get_nowait())
                batch: dict[str, str] = {}
                for item in waiting:
                    if isinstance(item, HostUnreachableError):
                        raise item
                    batch[item[0]] = item[1]
                yield batch

    # ----------------------------------------------------------------------------------------------- calls

    async def call(self, doing: str, function: Callable[[Any], T], timeout: float | None = None) -> T:
        """Run `function(libvirt connection)` in a thread of this host.

        `doing` is what it does in words, for the error; `timeout` in seconds, the settings' limit when left out.
        Raises our errors only: HostUnreachableError when the host is lost or hangs, TimedOutError when only this
        call hangs. Either way later calls get threads and a connection that work.
        """
        limit = timeout or self.settings.call_timeout_seconds
        session = await self._current()
        relief = asyncio.get_running_loop().call_later(_CROWDED_SECONDS, self._relieve, session)
        try:
            return await session.run(function, limit)
        except NotStartedError:
            return await self.call(doing, function, timeout)
        except TimeoutError:
            self._retire(session)
            await self.ping()
            raise TimedOutError(
                f"Host '{self.host.name}' answers, but did not {doing} within {limit:g} s; "
                "perhaps the partition's QEMU process hangs. Stopping the partition by force gets it loose."
            ) from None
        except asyncio.CancelledError:
            self._retire(session)
            raise
        except ConnectionError as error:
            raise HostUnreachableError(
                f"Lost the connection to host '{self.host.name}' while trying to {doing}: {error}",
                retry_after=RETRY_HOST_SECONDS,
            ) from error
        except libvirt.libvirtError as error:
            raise translate(code_of(error), str(error), doing, self.host.name, session.lost) from error
        finally:
            relief.cancel()

    def _relieve(self, session: Session) -> None:
        """Slow calls keep their threads, and those behind them go on with a new connection."""
        if (
            session is self._session
            and session.waiting
            and sum(not one.closed for one in self._left_behind) < _MAX_CONNECTIONS
        ):
            self._retire(session)

    async def ping(self) -> None:
        """Ask the host's libvirt for a sign of life. Raises HostUnreachableError within 10 s when there is none."""
        limit = min(self.settings.connect_timeout_seconds, 9.0)
        session: Session | None = None
        try:
            async with asyncio.timeout(limit):
                while True:
                    session = await self._current()
                    try:
                        await session.run(lambda connection: connection.getLibVersion(), None)
                    except NotStartedError:
                        continue
                    return
        except TimeoutError:
            if session is not None:
                self._retire(session)
            raise HostUnreachableError(
                f"Host '{self.host.name}' did not answer within {limit:g} s.", retry_after=RETRY_HOST_SECONDS
            ) from None
        except (libvirt.libvirtError, ConnectionError) as error:
            raise HostUnreachableError(
                f"Host '{self.host.name}' does not answer: {error}", retry_after=RETRY_HOST_SECONDS
            ) from error
        except PermanentError as error:
            raise HostUnreachableError(error.message, retry_after=RETRY_HOST_SECONDS) from error
