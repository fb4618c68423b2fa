"""A continuous pull in awkward moments: stopped while it is woken, its server restarted."""

import asyncio
from types import SimpleNamespace

from openqrm.bus.pull import RETRY_SECONDS, ContinuousPull
from openqrm.contracts.clock import SystemClock
from openqrm.testkit.clock import ManualClock


class FakeClient:
    """Takes what is published and subscribed to."""

    async def subscribe(self, inbox, cb):
        return self

    async def unsubscribe(self):
        pass

    async def publish(self, subject, body, reply):
        pass


async def test_a_pull_whose_consumer_was_deleted_can_be_stopped():
    pull = ContinuousPull(FakeClient(), "EVENTS", "c", "inbox", 8, None, SystemClock())
    await pull.start()
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop, no time
    asking = pull._task
    gone = SimpleNamespace(subject="inbox", data=b"", headers={"Status": "409", "Description": "Consumer Deleted"})
    await pull._on_message(gone)
    try:
        stopping = asyncio.create_task(pull.stop())
        done, _ = await asyncio.wait([stopping], timeout=1)
        assert done
    finally:
        asking.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)


class Asked(FakeClient):
    """Counts what it is asked for."""

    def __init__(self):
        self.asked = 0

    async def publish(self, subject, body, reply):
        self.asked += 1


async def test_after_a_new_connection_a_pull_asks_again_at_once():
    client = Asked()
    pull = ContinuousPull(client, "COMMANDS", "c", "inbox", 8, None, SystemClock())
    await pull.start()
    await SystemClock().sleep(0.02)
    assert client.asked == 1
    pull.renew()
    await SystemClock().sleep(0.02)
    assert client.asked == 2
    await pull.stop()


async def test_a_pull_that_nobody_answers_waits_before_it_asks_again():
    client = Asked()
    clock = ManualClock()
    lost = []

    async def on_lost():
        lost.append(True)

    pull = ContinuousPull(client, "EVENTS", "c", "inbox", 8, None, clock, on_lost)
    await pull.start()
    await clock.settle()
    nobody = SimpleNamespace(subject="inbox", data=b"", headers={"Status": "503"})
    for expected in (1, 2, 3):
        assert client.asked == expected
        await pull._on_message(nobody)
        await clock.settle()
        assert client.asked == expected, "not at once, or a server that is starting gets no peace"
        await clock.advance(RETRY_SECONDS)
    assert lost == [True] * 3
    await pull.stop()
