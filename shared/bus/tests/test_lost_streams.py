"""A real NATS whose streams go, come back as others, and hold many messages that were set aside."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from openqrm.bus.stream_state import StreamMissingError, StreamState
from openqrm.bus.streams import EVENTS, NUMBERS_BEGIN, executor_durable, first_number
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.execution import ExecuteCancelOperation
from openqrm.contracts.ids import new_id
from openqrm.testkit.nats import nats_server
from openqrm.testkit.waiting import eventually

SET_ASIDE = 5000
"""More than any window that a consumer of ours ever had."""


def test_a_later_stream_has_higher_numbers():
    now = datetime(2026, 3, 4, tzinfo=UTC)
    assert first_number(now + timedelta(seconds=1)) == first_number(now) + 1000
    assert first_number(NUMBERS_BEGIN - timedelta(days=1)) == 1, "a clock that was never set"


@pytest.mark.parametrize(
    ("now", "continues"),
    [
        (StreamState("made once", 1, 9), True),
        (StreamState("made once", 5, 12), True),
        (StreamState("made once", 1, 8), False),
        (StreamState("made again", 1, 12), False),
    ],
)
def test_a_stream_continues_when_it_is_the_same_and_has_not_gone_back(now, continues):
    assert now.continues(StreamState("made once", 1, 9)) is continues


async def test_streams_that_go_and_come_back_as_others():
    async with nats_server() as server, server.jetstream() as js:
        bus = server.bus("executor-fake")
        followed, anew = [], []

        async def deliver(message):
            followed.append(message.sequence)

        async def on_anew():
            anew.append(True)

        async def handle(_command, _delivery):
            pass

        bus.consume(executor_durable("fake"), {ExecuteCancelOperation: handle}, key=lambda _: None)
        await bus.start()
        await bus.follow(EVENTS, deliver, on_anew=on_anew)
        before = await bus.stream_state(EVENTS)
        assert bus.trouble is None
        for name in ("COMMANDS", "EXECUTIONS", "EVENTS", "SPANS"):
            await js.delete_stream(name)
        with pytest.raises(StreamMissingError, match="provisioning"):
            await bus.stream_state(EVENTS)
        await eventually(lambda: "EVENTS" in (bus.trouble or ""), 20, "it says which stream is missing")
        await eventually(lambda: "EXECUTIONS/executor-fake" in (bus.trouble or ""), 20, "and which consumer")
        await server.provision()
        await js.publish("host.lost", b"{}")
        await eventually(lambda: bool(followed), 20, "what is in the new stream is followed")
        assert anew == [True]
        assert followed[0] > before.last
        await eventually(lambda: bus.trouble is None, 20, "all is well again")
        await bus.stop()


async def test_thousands_that_are_set_aside_hold_up_nobody():
    async with nats_server() as server, server.jetstream() as js:
        bus = server.bus("executor-fake")
        hung, free = new_id(), new_id()
        aside: set[str] = set()
        handled = asyncio.Event()

        async def handle(command, delivery):
            if command.host_id == free:
                handled.set()
                return
            aside.add(delivery.message_id)
            raise TemporaryError("Its host is busy.", retry_after=600)

        bus.consume(executor_durable("fake"), {ExecuteCancelOperation: handle}, key=lambda _: None, concurrency=256)
        await bus.start()

        async def send(host):
            command = ExecuteCancelOperation(operation_id=new_id(), host_id=host, technology="fake", partition_id=None)
            await js.publish(f"operation.cancel.fake.{host}", command.model_dump_json().encode())

        for _ in range(SET_ASIDE // 500):
            await asyncio.gather(*(send(hung) for _ in range(500)))
        await eventually(lambda: len(aside) == SET_ASIDE, 60, "all are set aside")
        clock = SystemClock()
        begun = clock.monotonic()
        await send(free)
        await asyncio.wait_for(handled.wait(), 20)
        assert clock.monotonic() - begun < 20
        await bus.stop()
