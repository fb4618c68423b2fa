"""Facts that are published together, to a real NATS."""

import asyncio

import pytest

from openqrm.bus.streams import EVENTS
from openqrm.contracts.errors import TemporaryError
from openqrm.testkit.nats import nats_server

SUBJECT = "host.changed"


def message(name: str, size: int = 10) -> tuple[str, dict[str, str], bytes]:
    return SUBJECT, {"Nats-Msg-Id": name, "ce-type": SUBJECT}, name.encode().ljust(size)


@pytest.fixture
async def bus(monkeypatch):
    monkeypatch.setattr("openqrm.bus.bus.FEWEST", 2)
    async with nats_server() as server:
        await server.provision()
        bus = server.bus("inventory")
        await bus.connect()
        yield bus
        await bus.stop()


async def kept(bus, sequence: int) -> str:
    return (await bus.js.get_msg(EVENTS, sequence)).data.decode().strip()


async def test_each_has_its_sequence_also_among_others(bus):
    async def alone(name: str) -> dict[int, str]:
        return {await bus.publish_kept(*message(name)): name}

    async def together(name: str) -> dict[int, str]:
        names = [f"{name} {number}" for number in range(40)]
        sequences = await bus.publish_together([message(each) for each in names])
        return dict(zip(sequences, names, strict=True))

    told = await asyncio.gather(
        *(together(f"batch {number}") for number in range(5)), *(alone(f"alone {number}") for number in range(60))
    )
    by_sequence = {sequence: name for part in told for sequence, name in part.items()}
    assert len(by_sequence) == 260
    assert {sequence: await kept(bus, sequence) for sequence in by_sequence} == by_sequence


async def test_few_are_for_one_by_one(bus):
    assert await bus.publish_together([message("a")]) is None


async def test_one_that_came_before_is_for_one_by_one(bus):
    first = await bus.publish_kept(*message("a"))
    assert await bus.publish_together([message("a"), message("b")]) is None
    assert (await bus.stream_state(EVENTS)).last == first, "nothing of it is stored"
    assert await bus.publish_kept(*message("a")) == first
    (second, third) = await bus.publish_together([message("b"), message("c")])
    assert [await bus.publish_kept(*message(name)) for name in "bc"] == [second, third], "recognised afterwards, too"


async def test_one_that_is_too_large_is_for_one_by_one(bus):
    assert await bus.publish_together([message("a"), message("b", bus.client.max_payload)]) is None
    assert bus.is_connected


async def test_a_stream_without_batches(bus):
    config = (await bus.js.stream_info(EVENTS)).config
    await bus.js.update_stream(config.evolve(allow_atomic=False))
    assert await bus.publish_together([message("a"), message("b")]) is None
    assert [await bus.publish_kept(*message(name)) for name in "ab"]


async def test_a_server_that_is_away(bus, monkeypatch):
    monkeypatch.setattr("openqrm.bus.bus.PUBLISH_TIMEOUT_SECONDS", 0.2)
    await bus.js.delete_stream(EVENTS)
    with pytest.raises(TemporaryError):
        await bus.publish_together([message("a"), message("b")])
