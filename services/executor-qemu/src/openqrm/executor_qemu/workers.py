"""A daemon thread for calls that block, and that may never return."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class Worker:
    """One daemon thread, so that neither a hung call nor the end of the process waits for the other.

    concurrent.futures' own pool is not used: the interpreter joins its threads when it ends, hung or not.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        """Run `function` after what was submitted before; the future can be cancelled until then."""
        future: Future[T] = Future()
        self._jobs.put((future, function))
        return future

    async def run(self, function: Callable[[], T], timeout: float | None) -> T:
        """Like submit, awaited. Raises TimeoutError after `timeout` seconds; the thread may go on by itself."""
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self.submit(function))

    def stop(self) -> None:
        """Let the thread end after what it does now."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._perform(*job)
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
