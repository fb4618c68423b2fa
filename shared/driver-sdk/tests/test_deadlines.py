"""Time limits on virtual time."""

import asyncio

import pytest

from openqrm.driver.executor.deadlines import Deadlines
from openqrm.testkit.clock import ManualClock


async def _sleep_within(clock: ManualClock, deadlines: Deadlines, limit: float, sleep: float) -> str:
    try:
        with deadlines.limit(limit):
            await clock.sleep(sleep)
    except TimeoutError:
        return f"late at {clock.monotonic():g}"
    return f"done at {clock.monotonic():g}"


async def test_each_has_its_own_limit() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock)
    tasks = [
        asyncio.create_task(_sleep_within(clock, deadlines, limit, sleep))
        for limit, sleep in ((10, 5), (5, 10), (3, 30), (100, 8))
    ]
    await clock.advance(20)
    assert [await task for task in tasks] == ["done at 5", "late at 5", "late at 3", "done at 8"]
    await deadlines.stop()


async def test_the_inner_limit_is_told_from_the_outer_one() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock)

    async def nested() -> list[str]:
        seen = []
        try:
            with deadlines.limit(5):
                seen.append(await _sleep_within(clock, deadlines, 2, 10))
                seen.append(await _sleep_within(clock, deadlines, 20, 10))
        except TimeoutError:
            seen.append(f"outer at {clock.monotonic():g}")
        return seen

    task = asyncio.create_task(nested())
    await clock.advance(30)
    assert await task == ["late at 2", "outer at 5"]
    await deadlines.stop()


async def test_a_cancellation_stays_one() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock)
    task = asyncio.create_task(_sleep_within(clock, deadlines, 5, 10))
    await clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await deadlines.stop()


async def test_many_cost_one_watcher() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock)
    tasks = [asyncio.create_task(_sleep_within(clock, deadlines, 10, 1)) for _ in range(1000)]
    await clock.settle()
    assert clock.sleepers == 1001
    await clock.advance(1)
    assert {await task for task in tasks} == {"done at 1"}
    await deadlines.stop()
