"""Virtual time."""

import asyncio

from openqrm.testkit.clock import START, ManualClock


async def test_sleepers_wake_in_order_each_at_its_time() -> None:
    clock = ManualClock()
    log: list[tuple[str, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for pause in seconds:
            await clock.sleep(pause)
            log.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleep("a", 3, 3)), asyncio.create_task(sleep("b", 1, 2, 2))]
    await clock.advance(5.5)
    assert log == [("b", 1.0), ("a", 3.0), ("b", 3.0), ("b", 5.0)]
    assert clock.monotonic() == 5.5
    assert (clock.now() - START).total_seconds() == 5.5
    assert clock.sleepers == 1
    await clock.advance(1)
    await asyncio.gather(*tasks)
    assert log[-1] == ("a", 6.0)


async def test_a_cancelled_sleeper_does_not_wake() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.settle()
    task.cancel()
    await clock.advance(2)
    assert task.cancelled()
    assert clock.sleepers == 0


async def test_sleeping_not_at_all_takes_no_time() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    assert clock.monotonic() == 0
