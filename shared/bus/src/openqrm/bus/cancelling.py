"""Cancelling tasks for sure.

`asyncio.wait_for` of Python 3.11, by which nats-py awaits every reply, swallows a cancellation that comes at the same
moment as the reply (https://github.com/python/cpython/issues/86296). The task then goes on as if nothing had been; and
`task.cancel(); await task` waits for ever.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.5
"""Long enough for a task to tidy up; then it is taken for one that has lost its cancellation."""


async def end(tasks: Iterable["asyncio.Task[Any] | None"]) -> None:
    """Cancel tasks, as often as it takes, and return once all have ended, however they did.

    A cancellation of the caller meanwhile is not lost: it is raised.
    """
    given = [task for task in tasks if task is not None]
    pending = {task for task in given if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    for task in given:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain in the log that nobody did
