"""Waiting for something that is to become true."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_nothing_happens = threading.Event()


def sleep(seconds: float) -> None:
    """Let time pass."""
    _nothing_happens.wait(seconds)


def wait_until(question: Callable[[], T], seconds: float, what: str, every: float = 0.2) -> T:
    """Ask until the answer is true, and return it. AssertionError, with `what` and the last answer, if it never is."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"after {seconds:g} s not yet: {what} (last answer: {answer!r})"
        sleep(every)
