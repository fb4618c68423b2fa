"""Cancelling tasks for sure: see openqrm.bus.cancelling, which tells of what Python 3.11 swallows."""

import asyncio

from openqrm.bus.cancelling import end

__all__ = ["end", "stop_if_cancelled"]


def stop_if_cancelled() -> None:
    """Raise the cancellation of the current task that was swallowed by what it awaited last."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
