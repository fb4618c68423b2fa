"""A small pool of daemon threads for calls that block, and that may never return."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class NotStartedError(Exception):
    """The call was still waiting for a thread when its pool was given up; it can be made elsewhere."""


class Workers:
    """Up to `limit` daemon threads, so that neither a hung call nor the end of the process waits for the other.

    concurrent.futures' own pool is not used: the interpreter joins its threads when it ends, hung or not.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._outstanding = 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        """Run `function` in a thread as soon as one is free; the future can be cancelled until then."""
        future: Future[T] = Future()
        with self._lock:
            self._outstanding += 1
            if self._outstanding > self._threads and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._jobs.put((future, function))
        return future

    async def run(self, function: Callable[[], T], timeout: float | None) -> T:
        """Like submit, awaited. Raises TimeoutError after `timeout` seconds; the thread may go on by itself."""
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self.submit(function))

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._jobs.qsize()

    def give_up(self) -> None:
        """Raise NotStartedError in every call that still waits for a thread."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                with self._lock:
                    self._outstanding -= 1
                if job is not None and job[0].set_running_or_notify_cancel():
                    with contextlib.suppress(RuntimeError):
                        job[0].set_exception(NotStartedError())

    def stop(self) -> None:
        """Let every thread end after what it does now."""
        for _ in range(self._limit):
            self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._perform(*job)
            with self._lock:
                self._outstanding -= 1
            del job

    @staticmethod
    def _perform(future: "Future[Any]", function: Callable[[], Any]) -> None:
        if future.set_running_or_notify_cancel():
            # The waiter's loop may be closed by now: nobody is left to be told.
            with contextlib.suppress(RuntimeError):
                try:
                    result = function()
                except BaseException as error:  # noqa: BLE001 - handed to the waiter
                    future.set_exception(error)
                else:
                    future.set_result(result)
