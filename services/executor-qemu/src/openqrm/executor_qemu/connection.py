"""The supervised connection to one host, and those beside it that calls are made on.

The supervised one brings events and signs of life. Each call has a connection and a thread for itself while it lasts:
one that hangs keeps nobody waiting, and is ended by cutting its connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import libvirt

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import HostUnreachableError, OpenQrmError, PermanentError, ProblemCode, TimedOutError
from openqrm.driver.capabilities import Host
from openqrm.driver.steps import step
from openqrm.executor_qemu.errors import RETRY_HOST_SECONDS, code_of, means_lost, translate
from openqrm.executor_qemu.lines import Line
from openqrm.executor_qemu.sessions import Session
from openqrm.executor_qemu.settings import QemuSettings
from openqrm.executor_qemu.tunnels import TransportLoop, Tunnel

T = TypeVar("T")

DomainNews = tuple[str, str]
"""A domain's UUID and what happened to it."""

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0

_MAX_IDLE = 4
"""Connections that are kept for the next calls."""


class HostLink:
    """Everything that is held for one host: its line, its connections, who listens to its events."""

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
        self._idle: list[Session] = []
        self._slots = asyncio.Semaphore(settings.calls_per_host)
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
        """Let go of the host for good."""
        self._closed = True
        await self.hang_up()

    async def hang_up(self) -> None:
        """Drop every connection; who calls next opens a new one.

        A migration outlives the loss of a host: it has to ask it again who has the partition.
        """
        tasks, self._supervisor = (self._supervisor, self._opening), None
        for task in tasks:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OpenQrmError):
                    await task
        for session in (self._session, *self._others, *self._idle):
            if session is not None:
                session.close()
        self._session = None
        self._idle.clear()
        self._tell_lost(HostUnreachableError(f"Host '{self.host.name}' was let go of."))
        await self._line.close()

    # ---------------------------------------------------------------------------------------------- losing

    def _on_lost(self, session: Session) -> None:
        session.close()
        self._others.discard(session)
        if session is self._session:
            self._drop(session)

    def _drop(self, session: Session) -> None:
        """The host is lost: end what is idle, tell who listens, and let the supervisor begin anew."""
        session.close()
        if session is not self._session:
            return
        self._session = None
        self.acceleration = None
        while self._idle:
            self._idle.pop().close()
        self._tell_lost(
            HostUnreachableError(f"Lost the connection to host '{self.host.name}'.", retry_after=RETRY_HOST_SECONDS)
        )
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
        call hangs. Either way later calls get threads and connections that work.
        """
        limit = timeout or self.settings.call_timeout_seconds
        async with self._slots:
            session = await self._idle_session()
            try:
                with step(f"libvirt: {doing}"):
                    result = await session.run(function, limit)
            except TimeoutError:
                self._give_back(session, lost=True)
            except libvirt.libvirtError as error:
                lost = session.lost or means_lost(code_of(error), str(error))
                self._give_back(session, lost)
                raise translate(code_of(error), str(error), doing, self.host.name, lost) from error
            except ConnectionError as error:
                self._give_back(session, lost=True)
                raise self._lost_while(doing, error) from error
            except asyncio.CancelledError:
                self._give_back(session, lost=True)
                raise
            except BaseException:
                self._give_back(session, session.lost)
                raise
            else:
                self._give_back(session, session.lost)
                return result
        await self.ping()
        raise TimedOutError(
            f"Host '{self.host.name}' answers, but did not {doing} within {limit:g} s; "
            "perhaps the partition's QEMU process hangs. Stopping the partition by force gets it loose."
        )

    def _lost_while(self, doing: str, error: BaseException) -> HostUnreachableError:
        return HostUnreachableError(
            f"Lost the connection to host '{self.host.name}' while trying to {doing}: {error}",
            retry_after=RETRY_HOST_SECONDS,
        )

    async def _idle_session(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                self._others.add(session)
                return session
        await self._current()
        session = await self._open(None)
        self._others.add(session)
        return session

    def _give_back(self, session: Session, lost: bool) -> None:
        self._others.discard(session)
        if lost or not session.usable or len(self._idle) >= _MAX_IDLE or self._closed:
            session.close()
        else:
            self._idle.append(session)

    async def ping(self) -> None:
        """Ask the host's libvirt for a sign of life. Raises HostUnreachableError within 10 s when there is none."""
        limit = min(self.settings.connect_timeout_seconds, 9.0)
        session: Session | None = None
        try:
            async with asyncio.timeout(limit):
                session = await self._current()
                await session.run(lambda connection: connection.getLibVersion(), None)
        except TimeoutError:
            if session is not None:
                self._drop(session)
            raise HostUnreachableError(
                f"Host '{self.host.name}' did not answer within {limit:g} s.", retry_after=RETRY_HOST_SECONDS
            ) from None
        except (libvirt.libvirtError, ConnectionError) as error:
            raise HostUnreachableError(
                f"Host '{self.host.name}' does not answer: {error}", retry_after=RETRY_HOST_SECONDS
            ) from error
        except PermanentError as error:
            raise HostUnreachableError(error.message, retry_after=RETRY_HOST_SECONDS) from error
