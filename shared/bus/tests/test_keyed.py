"""One at a time for a key, in order; different keys at once."""

import asyncio

from openqrm.bus.keyed import KeyedLock


async def test_order_within_a_key_and_freedom_between_keys():
    lock, seen, gate = KeyedLock(), [], asyncio.Event()

    async def work(key: str, number: int) -> None:
        async with lock.hold(key):
            seen.append((key, number))
            if (key, number) == ("a", 0):
                await gate.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(work("a", number))
        await group.create_task(work("b", 0))
        assert seen == [("a", 0), ("b", 0)]
        gate.set()
    assert seen == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]
    assert lock._locks == {}


async def test_a_waiter_that_is_cancelled_leaves_the_key_free():
    lock = KeyedLock()

    async def wait_for_it() -> None:
        async with lock.hold("a"):
            pass

    async with lock.hold("a"):
        waiter = asyncio.create_task(wait_for_it())
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop, no time
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    assert lock._locks == {}
