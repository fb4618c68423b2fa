"""A cancellation that is swallowed is noticed."""

import asyncio

from openqrm.contracts.clock import SystemClock
from openqrm.driver.executor.attempts import Attempts
from openqrm.driver.executor.cancelling import end, stop_if_cancelled
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.testkit.clock import yield_now


async def _deaf(times: int) -> str:
    """Swallow so many cancellations, as wait_for of Python 3.11 can."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()
    return "never"


async def test_tasks_end_that_swallow_a_cancellation() -> None:
    tasks = [asyncio.create_task(_deaf(times)) for times in (0, 1, 2)]
    await yield_now()
    await end([None, *tasks])
    assert all(task.cancelled() for task in tasks)


async def test_what_failed_or_is_done_has_ended() -> None:
    async def fail() -> None:
        raise ValueError("x")

    tasks = [asyncio.create_task(fail()), asyncio.create_task(yield_now())]
    await asyncio.wait(tasks)
    await end(tasks)
    assert isinstance(tasks[0].exception(), ValueError)


async def test_what_was_given_up_does_not_begin_after_all() -> None:
    clock = SystemClock()
    deadlines = Deadlines(clock)
    attempts = Attempts(clock, deadlines, retry_limit=0, cancel_grace=1)
    begun = False

    async def check_then_begin() -> None:
        nonlocal begun
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed = True  # the check got its answer at the same moment
            assert swallowed
        stop_if_cancelled()
        begun = True

    task = asyncio.create_task(attempts.persist(check_then_begin))
    await yield_now()
    task.cancel()
    assert not await attempts.within(5, task, "it")
    assert not begun
    await deadlines.stop()
