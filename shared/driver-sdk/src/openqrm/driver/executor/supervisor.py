"""Looks after one host: connects it, listens to it, reads it, and connects it again when it is lost.

Two tasks per host, so that one process can look after thousands: this one, which pings and waits, and the driver's
`watch`. A reading is a task only while it lasts.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from nats.errors import Error as NatsError

from openqrm.bus.bus import Bus
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import OpenQrmError, PermanentError, TemporaryError
from openqrm.contracts.host import HostConnected, HostDisconnected, HostHeartbeat
from openqrm.contracts.message import Event
from openqrm.contracts.partition import ObservedPartition, PartitionObserved
from openqrm.contracts.states import HostState
from openqrm.driver.capabilities import Driver, Host, PartitionChange
from openqrm.driver.executor.cancelling import end, stop_if_cancelled
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.gates import Stagger
from openqrm.driver.executor.reader import HostReader
from openqrm.driver.executor.settings import ExecutorSettings

PING_RETRY_SHARE = 0.2
"""Of the ping interval: how soon a failed ping is repeated."""
WATCH_RETRY_SECONDS = 5.0
DISCONNECT_SECONDS = 10.0
TELL_RETRY_SECONDS = 1.0
JITTER = 0.25


@dataclass
class Surroundings:
    """What all supervisors of an executor share."""

    technology: str
    driver: Driver
    bus: Bus
    clock: Clock
    settings: ExecutorSettings
    deadlines: Deadlines
    stagger: Stagger
    rng: random.Random
    count: Callable[[bool | None, bool | None], None]
    """Told each time that a host's being connected changes: (before, now); None: not a host of ours."""
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    """Runs something in the background; the executor keeps the task and ends it when it stops."""

    async def tell(self, event: Event, about: UUID) -> None:
        """Publish an event however long the bus is away; the order of one host's events is kept by waiting.

        One that the bus never takes, because it is too large, is dropped with a line in the log.
        """
        delay = TELL_RETRY_SECONDS
        while True:
            stop_if_cancelled()
            try:
                await self.bus.publish(event, about=about)
            except PermanentError as error:
                structlog.get_logger(service=self.bus.service).error("an event was dropped", reason=error.message)
                return
            except (TemporaryError, NatsError):
                await self.clock.sleep(delay * (1 + self.rng.uniform(-JITTER, JITTER)))
                delay = min(delay * 2, 10.0)
            else:
                return


class HostSupervisor:
    """Knows whether one host is connected, and tells when that changes."""

    def __init__(self, host: Host, around: Surroundings) -> None:
        self.host = host
        self.is_connected = False
        self.reason = "it was not connected yet"
        """Why it is not connected, without a full stop."""
        self._around = around
        self._state: HostState | None = None
        self._told: str | None = None
        """What was published last: `connected`, or the code of the reason why not."""
        self._reader = HostReader(around.driver, around.clock, around.deadlines, around.settings)
        self._told_lost = False
        """Whether what was told may be lost."""
        self._read_now = False
        """Whether somebody waits for a reading that is newer than now."""
        self._reconnect = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(service=around.bus.service, host=host.name)

    def start(self, state: HostState) -> None:
        """Begin to look after it."""
        self._state = state
        self._around.count(None, False)
        self._task = asyncio.create_task(self._look_after_for_ever(), name=f"host {self.host.name}")

    async def stop(self) -> None:
        """Let go of it; nothing changes on the host."""
        await end([self._task])
        self._around.count(self.is_connected, None)
        self.is_connected = False
        await self._disconnect()

    def update(self, host: Host, state: HostState) -> None:
        """Take over what inventory says now; a new address means a new connection."""
        self._reconnect |= host.connection != self.host.connection
        prepared = state is not self._state and not self.is_connected
        if state is HostState.UNREACHABLE and self._state is not state and self.is_connected:
            self.tell_again()  # another replica does not reach it, and this one does
        self.host, self._state = host, state
        if self._reconnect or prepared:
            self.wake()

    def wake(self) -> None:
        """Stop waiting: something changed that makes a new look worth it."""
        self._woken.set()

    def tell_again(self) -> None:
        """Tell what it told last once more, and everything on the host with it: it may have been lost."""
        self._told_lost = True
        self.read_anew()

    def read_anew(self) -> None:
        """Read the host and tell everything on it, whether it is news or not; at the latest once it is connected."""
        self._read_now = True
        self._reader.begin()
        self.wake()

    def note(self, partition_id: UUID, observed: ObservedPartition | None) -> None:
        """Remember what an execution has just seen of a partition."""
        self._reader.note(partition_id, observed)

    # -------------------------------------------------------------------------------------------- life

    async def _look_after_for_ever(self) -> None:
        while True:
            try:
                await self._reach()
                self._set_connected(True, "")
                await self._tell("connected")
                lost = await self._stay()
                if lost is not None:
                    self._set_connected(False, lost.message)
                    await self._tell(lost.code.value)
                else:
                    self._set_connected(False, "its address was changed")
                await self._disconnect()
            except asyncio.CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a host may never be forgotten because of one error
                self._log.exception("looking after a host failed; beginning anew")
                await self._pause(self._around.settings.reconnect_longest)

    async def _reach(self) -> None:
        settings = self._around.settings
        delay = settings.reconnect_first
        while True:
            self._reconnect = False
            try:
                async with self._around.stagger.turn():
                    with self._around.deadlines.limit(settings.connect_timeout):
                        await self._around.driver.connect(self.host)
            except Exception as error:  # noqa: BLE001 - whatever it is, the host is not reachable
                problem = _as_problem(error, settings.connect_timeout)
            else:
                return
            if isinstance(problem, PermanentError):
                delay = settings.reconnect_longest  # mended by a person, who changes the host, which wakes this
            self._set_connected(False, problem.message)
            if self._told_lost:
                self._told, self._told_lost = None, False
            await self._tell(problem.code.value)
            await self._pause(delay * (1 + self._around.rng.uniform(-JITTER, JITTER)))
            delay = min(delay * 2, settings.reconnect_longest)

    async def _stay(self) -> OpenQrmError | None:
        """Look after the connected host until it is lost (returns why) or has a new address (None)."""
        clock, settings = self._around.clock, self._around.settings
        self._reader.begin()
        watch: asyncio.Task[None] | None = None
        reading: asyncio.Task[None] | None = None
        next_watch = next_reading = clock.monotonic()
        next_ping = clock.monotonic() + settings.ping_interval * self._around.rng.random()
        try:
            while not self._reconnect:
                now = clock.monotonic()
                if self._told_lost:
                    self._told, self._told_lost = None, False
                    await self._tell("connected")
                if self._read_now:
                    self._read_now, next_reading = False, now
                if watch and watch.done():
                    if lost := self._why_ended(watch):
                        return lost
                    watch, next_watch = None, now + WATCH_RETRY_SECONDS
                if watch is None and now >= next_watch:
                    watch = asyncio.create_task(self._watch(), name=f"watch {self.host.name}")
                    watch.add_done_callback(lambda _: self.wake())
                if now >= next_reading and (reading is None or reading.done()):
                    reading = asyncio.create_task(self._read(), name=f"read {self.host.name}")
                    next_reading = now + settings.observe_interval
                if now >= next_ping:
                    if lost := await self._ping():
                        return lost
                    next_ping = clock.monotonic() + settings.ping_interval
                wait_until = min(next_ping, next_reading, next_ping if watch else next_watch)
                await self._pause(max(wait_until - clock.monotonic(), 0.0))
            return None
        finally:
            await end([watch, reading])

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError), self._around.deadlines.limit(seconds):
            await self._woken.wait()
        self._woken.clear()

    # -------------------------------------------------------------------------------------------- parts of it

    async def _ping(self) -> OpenQrmError | None:
        """Send a heartbeat; returns why not when it did not answer several times in a row."""
        settings = self._around.settings
        problem: OpenQrmError | None = None
        for failures in range(settings.ping_failures):
            if failures:
                await self._around.clock.sleep(settings.ping_interval * PING_RETRY_SHARE)
            try:
                with self._around.deadlines.limit(settings.ping_timeout):
                    await self._around.driver.ping(self.host)
            except Exception as error:  # noqa: BLE001 - whatever it is, the host did not answer
                problem = _as_problem(error, settings.ping_timeout)
            else:
                await self._send_heartbeat()
                return None
        return problem

    async def _send_heartbeat(self) -> None:
        if self._around.bus.is_connected:
            heartbeat = HostHeartbeat(
                host_id=self.host.id, technology=self._around.technology, observed_at=self._around.clock.now()
            )
            with suppress(NatsError):
                await self._around.bus.publish(heartbeat, about=self.host.id)

    async def _read(self) -> None:
        try:
            event = await self._reader.read(self.host)
        except (OpenQrmError, TimeoutError) as error:
            self._log.warning("the host could not be read", reason=str(error))
        except Exception:  # noqa: BLE001 - a reading that fails is repeated; pings say whether the host is there
            self._log.exception("reading the host failed in the driver")
        else:
            if event:
                await self._around.tell(event, self.host.id)
                self._reader.told(event)

    async def _watch(self) -> None:
        await self._around.driver.watch(self.host, self._on_change)

    async def _on_change(self, change: PartitionChange) -> None:
        self._reader.note(change.partition_id, change.observed)
        await self._around.tell(
            PartitionObserved(
                host_id=self.host.id,
                partition_id=change.partition_id,
                observed=change.observed,
                reason=change.reason,
                observed_at=self._around.clock.now(),
            ),
            change.partition_id,
        )

    def _why_ended(self, watch: asyncio.Task[None]) -> OpenQrmError | None:
        error = None if watch.cancelled() else watch.exception()
        if isinstance(error, TemporaryError):
            return error
        self._log.warning("watching the host ended; it is begun again", error=str(error) if error else "no reason")
        return None

    def _set_connected(self, now: bool, reason: str) -> None:
        if now != self.is_connected:
            self._around.count(self.is_connected, now)
            if now:
                self._log.info("host connected")
            else:
                self._log.warning("host disconnected", reason=reason)
        self.is_connected, self.reason = now, reason.rstrip(".")

    async def _tell(self, what: str) -> None:
        if what == self._told:
            return
        self._told = what
        now = self._around.clock.now()
        event: Event = (
            HostConnected(host_id=self.host.id, observed_at=now)
            if what == "connected"
            else HostDisconnected(host_id=self.host.id, reason=self.reason, observed_at=now)
        )
        await self._around.tell(event, self.host.id)

    async def _disconnect(self) -> None:
        try:
            with self._around.deadlines.limit(DISCONNECT_SECONDS):
                await self._around.driver.disconnect(self.host.id)
        except Exception as error:  # noqa: BLE001 - it is lost either way
            self._log.info("the host could not be let go of properly", error=str(error))


def _as_problem(error: Exception, seconds: float) -> OpenQrmError:
    if isinstance(error, OpenQrmError):
        return error
    if isinstance(error, TimeoutError):
        return TemporaryError(f"It did not answer within {seconds:g} s.")
    return TemporaryError(f"The driver failed with {type(error).__name__}: {error}.")
