"""How many executions one host gets at once, and what becomes of those for which it has no room.

A few wait in memory, in order. More are set aside: they go back to the queue with a delay, so that a host that hangs
cannot fill the consumer's window and starve the others.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import TemporaryError


class SetAside(TemporaryError):  # noqa: N818 - no error: its turn has not come
    """The command goes back to the queue and comes again after `retry_after` seconds."""


@dataclass
class _Host:
    slots: asyncio.Semaphore
    users: int = 0
    waiting: int = 0


class Gate:
    """Lets `slots` executions of each host through at once and at most `waiting` more wait."""

    def __init__(self, slots: int, waiting: int, waiting_in_all: int, retry_after: float) -> None:
        self._slots = slots
        self._waiting = waiting
        self._waiting_in_all = waiting_in_all
        self._retry_after = retry_after
        self._hosts: dict[UUID, _Host] = {}
        self._waiting_now = 0

    @asynccontextmanager
    async def enter(self, host_id: UUID, may_wait: bool = True) -> AsyncIterator[None]:
        """Hold one of the host's slots. Raises SetAside when too many wait for one already."""
        host = self._hosts.setdefault(host_id, _Host(asyncio.Semaphore(self._slots)))
        full = host.slots.locked()
        if full and (not may_wait or host.waiting >= self._waiting or self._waiting_now >= self._waiting_in_all):
            raise SetAside(f"Host {host_id} is busy with {self._slots} executions.", retry_after=self._retry_after)
        host.users += 1
        try:
            await self._acquire(host, full)
            try:
                yield
            finally:
                host.slots.release()
        finally:
            host.users -= 1
            if host.users == 0:
                del self._hosts[host_id]

    async def _acquire(self, host: _Host, full: bool) -> None:
        if not full:
            await host.slots.acquire()
            return
        host.waiting += 1
        self._waiting_now += 1
        try:
            await host.slots.acquire()
        finally:
            host.waiting -= 1
            self._waiting_now -= 1


class Stagger:
    """Spreads a start-up: at most `slots` at once, and none of them keeps its slot longer than `hold` seconds."""

    def __init__(self, slots: int, hold: float, clock: Clock) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._hold = hold
        self._clock = clock

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot; it is given back at the end or when it was held for too long."""
        await self._slots.acquire()
        held = asyncio.create_task(self._clock.sleep(self._hold), name="stagger")
        held.add_done_callback(lambda _: self._slots.release())
        try:
            yield
        finally:
            held.cancel()
