"""A continuous pull that is stopped in the moment in which it was woken."""

import asyncio
from types import SimpleNamespace

import pytest

from openqrm.bus.pull import ContinuousPull
from openqrm.contracts.clock import SystemClock


class FakeClient:
    """Takes what is published and subscribed to."""

    async def subscribe(self, inbox, cb):
        return self

    async def unsubscribe(self):
        pass

    async def publish(self, subject, body, reply):
        pass


@pytest.mark.xfail(
    strict=True,
    reason="asyncio.wait_for of Python 3.11 swallows a cancellation when what it waits for is done already",
)
async def test_a_pull_whose_consumer_was_deleted_can_be_stopped():
    pull = ContinuousPull(FakeClient(), "EVENTS", "c", "inbox", 8, None, SystemClock())
    await pull.start()
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop, no time
    asking = pull._task
    gone = SimpleNamespace(data=b"", headers={"Status": "409", "Description": "Consumer Deleted"})
    await pull._on_message(gone)
    try:
        stopping = asyncio.create_task(pull.stop())
        done, _ = await asyncio.wait([stopping], timeout=1)
        assert done
    finally:
        asking.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)
