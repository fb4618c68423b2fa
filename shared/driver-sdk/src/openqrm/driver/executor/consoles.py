"""Answers who wants to look at a guest: opens console sessions and takes screenshots."""

import asyncio
from typing import cast
from uuid import UUID

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.console import ConsoleKind, OpenConsole, Screenshot, TakeScreenshot
from openqrm.contracts.console import ConsoleSession as ConsoleSessionOpened
from openqrm.contracts.errors import ConflictError, HostUnreachableError, TemporaryError, UnsupportedError
from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver.capabilities import Console, Driver, Host
from openqrm.driver.executor.console import ConsoleSession
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.hosts import Hosts
from openqrm.driver.executor.settings import ExecutorSettings

OPEN_SECONDS = 15.0


class Consoles:
    """The sessions that are open in this executor."""

    def __init__(
        self,
        driver: Driver,
        manifest: Manifest,
        bus: Bus,
        clock: Clock,
        settings: ExecutorSettings,
        hosts: Hosts,
        deadlines: Deadlines,
    ) -> None:
        self._driver = driver
        self._manifest = manifest
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._hosts = hosts
        self._deadlines = deadlines
        self._sessions: dict[UUID, tuple[OpenConsole, ConsoleSession]] = {}

    async def open_console(self, query: OpenConsole) -> ConsoleSessionOpened:
        """Open a console; asking twice for the same session gives the same one."""
        opened = ConsoleSessionOpened(session_id=query.session_id, kind=query.kind)
        if query.session_id in self._sessions:
            if self._sessions[query.session_id][0] != query:
                raise ConflictError(f"Console session {query.session_id} is open for something else. Use a new id.")
            return opened
        console, host = self._console(), self._host(query.host_id)
        opener = console.open_serial if query.kind is ConsoleKind.SERIAL else console.open_vnc
        try:
            with self._deadlines.limit(OPEN_SECONDS):
                channel = await opener(host, query.partition_id)
        except TimeoutError as error:
            raise self._late(host) from error
        session = ConsoleSession(
            query.session_id, channel, self._bus, self._clock, self._deadlines, self._settings, self._closed
        )
        self._sessions[query.session_id] = (query, session)
        await session.start()
        return opened

    async def take_screenshot(self, query: TakeScreenshot) -> Screenshot:
        """Take a picture of a guest's screen."""
        console, host = self._console(), self._host(query.host_id)
        try:
            with self._deadlines.limit(OPEN_SECONDS):
                return await console.take_screenshot(host, query.partition_id)
        except TimeoutError as error:
            raise self._late(host) from error

    async def stop(self) -> None:
        """Close all sessions."""
        sessions = [session for _, session in self._sessions.values()]
        await asyncio.gather(
            *(session.close("The executor is stopping. Open the console again.") for session in sessions)
        )

    def _closed(self, session_id: UUID) -> None:
        self._sessions.pop(session_id, None)

    def _console(self) -> Console:
        if Capability.CONSOLE not in self._manifest.capabilities:
            reason = self._manifest.unsupported.get(Capability.CONSOLE, "its driver does not declare it")
            raise UnsupportedError(f"{self._manifest.title} has no consoles: {reason}")
        return cast(Console, self._driver)

    def _host(self, host_id: UUID) -> Host:
        supervisor = self._hosts.get(host_id)
        if supervisor is None or not supervisor.is_connected:
            name = supervisor.host.name if supervisor else str(host_id)
            reason = supervisor.reason if supervisor else "this executor does not know it"
            raise HostUnreachableError(f"Host {name} is not connected: {reason}.", retry_after=self._settings.set_aside)
        return supervisor.host

    def _late(self, host: Host) -> TemporaryError:
        return HostUnreachableError(f"Host {host.name} did not open the console within {OPEN_SECONDS:g} s. Try again.")
