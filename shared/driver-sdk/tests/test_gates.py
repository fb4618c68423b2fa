"""Busy hosts, and a spread start-up."""

import asyncio

import pytest

from openqrm.contracts.ids import new_id
from openqrm.driver.executor.gates import Gate, SetAside, Stagger
from openqrm.testkit.clock import ManualClock

HOST, OTHER = new_id(), new_id()


async def test_so_many_run_so_many_wait_and_the_rest_is_set_aside() -> None:
    clock = ManualClock()
    gate = Gate(slots=2, waiting=1, waiting_in_all=10, retry_after=7.0)
    log: list[str] = []

    async def execute(name: str) -> None:
        try:
            async with gate.enter(HOST):
                log.append(f"{name} in")
                await clock.sleep(1)
        except SetAside as error:
            log.append(f"{name} set aside for {error.retry_after:g}")

    tasks = [asyncio.create_task(execute(name)) for name in "abcd"]
    await clock.settle()
    assert log == ["a in", "b in", "d set aside for 7"]
    async with gate.enter(OTHER):  # another host is not concerned
        pass
    await clock.advance(1)
    assert log[-1] == "c in"
    await clock.advance(1)
    await asyncio.gather(*tasks)
    async with gate.enter(HOST, may_wait=False):  # nothing was left behind
        pass


async def test_over_all_hosts_only_so_many_wait() -> None:
    gate = Gate(slots=1, waiting=5, waiting_in_all=1, retry_after=1.0)
    async with gate.enter(HOST), gate.enter(OTHER):

        async def wait() -> None:
            async with gate.enter(HOST):
                pass

        waits = asyncio.create_task(wait())
        await ManualClock().settle()
        with pytest.raises(SetAside):
            async with gate.enter(OTHER):
                pass
    await waits


async def test_one_that_gives_up_waiting_leaves_no_trace() -> None:
    clock = ManualClock()
    gate = Gate(slots=1, waiting=1, waiting_in_all=1, retry_after=1.0)

    async def wait() -> None:
        async with gate.enter(HOST):
            pass

    async with gate.enter(HOST):
        first = asyncio.create_task(wait())
        await clock.settle()
        first.cancel()
        await asyncio.wait({first})
        second = asyncio.create_task(wait())
        await clock.settle()
    await second


async def test_a_start_up_is_spread_and_a_hanging_one_makes_room() -> None:
    clock = ManualClock()
    stagger = Stagger(slots=2, hold=3.0, clock=clock)
    begun: list[tuple[int, float]] = []

    async def connect(number: int, seconds: float) -> None:
        async with stagger.turn():
            begun.append((number, clock.monotonic()))
            await clock.sleep(seconds)

    tasks = [asyncio.create_task(connect(number, seconds)) for number, seconds in enumerate((100, 1, 1, 1))]
    await clock.advance(10)
    assert begun == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 2.0)]
    tasks += [asyncio.create_task(connect(number, 1)) for number in (4, 5)]
    await clock.advance(1)
    assert [at for number, at in begun if number > 3] == [10.0, 10.0], "the hanging one has lost its slot"
    await clock.advance(100)
    await asyncio.gather(*tasks)
