"""Messages that wait in lanes and are handled together, with a real NATS."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from openqrm.bus.consumer import Consumer
from openqrm.bus.lanes import Together
from openqrm.bus.streams import EVENTS, service_durable
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.dead_letter import MessageDeadLettered
from openqrm.contracts.errors import InvalidError, TemporaryError
from openqrm.contracts.host import HostDisconnected
from openqrm.contracts.message import INVENTORY, Kind
from openqrm.contracts.partition import PartitionObserved
from openqrm.testkit.nats import nats_server
from openqrm.testkit.waiting import eventually, eventually_async

CLOCK = SystemClock()
NOW = CLOCK.now()
HOSTS = [UUID(int=number) for number in (1, 2)]


class Hearing:
    """Takes what is told of partitions; the newest of each counts."""

    def __init__(self):
        self.alone: list[str] = []
        self.together: list[list[str]] = []
        self.superseded = 0
        self.reasons: dict[UUID, list[str]] = defaultdict(list)
        """By partition, what was handled of it, in order."""
        self.hosts: list[str] = []
        """By the order of handling: what was told of the first host."""
        self.letters = 0
        self.away = 0
        """How often the database is away before it is there again."""
        self.free = asyncio.Event()
        self.free.set()

    async def one(self, event, _delivery):
        await self.free.wait()
        self._take([event])
        self.alone.append(event.reason)

    async def many(self, events, superseded):
        await self.free.wait()
        self._take([event for event, _ in events])
        self.together.append([event.reason for event, _ in events])
        self.superseded += len(superseded)

    async def host(self, event, _delivery):
        self.hosts.append(event.reason)

    async def letter(self, _event, _delivery):
        self.letters += 1

    def _take(self, events):
        if self.away:
            self.away -= 1
            raise TemporaryError("away", retry_after=0.01)
        if bad := [event.reason for event in events if "bad" in event.reason]:
            raise InvalidError(f"{bad} cannot be stored")
        for event in events:
            self.reasons[event.partition_id].append(event.reason)
            if event.host_id == HOSTS[0]:
                self.hosts.append(event.reason)


def all_but_the_last(events):
    return set(range(len(events) - 1))


@asynccontextmanager
async def hearing(server, heard, superseded=all_but_the_last):
    bus = server.bus(INVENTORY)
    together = Together(lambda event: getattr(event, "host_id", None), PartitionObserved, superseded, heard.many)
    handlers = {PartitionObserved: heard.one, HostDisconnected: heard.host, MessageDeadLettered: heard.letter}
    bus.consume(
        service_durable(INVENTORY, Kind.EVENT), handlers, lambda event: str(getattr(event, "partition_id", "")),
        together=together,
    )  # fmt: skip
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@pytest.fixture
async def server():
    async with nats_server() as server:
        yield server


@pytest.fixture
async def teller(server):
    bus = server.bus("executor-fake")
    await bus.connect()
    yield bus
    await bus.stop()


def seen(reason: str, partition: int = 0, host: int = 0) -> PartitionObserved:
    return PartitionObserved(
        host_id=HOSTS[host], partition_id=UUID(int=100 + partition), observed=None, reason=reason, observed_at=NOW
    )


async def tell(teller, *events):
    for event in events:
        await teller.publish(event)


async def gathered(bus, teller, *events):
    """The first one is at work, and all others wait behind it."""
    lanes = bus._consumers[0]._lanes
    for count, told in ((1, events[:1]), (len(events), events[1:])):
        await tell(teller, *told)
        await eventually(lambda count=count: lanes._count == count, 10, "all have come")
        await CLOCK.sleep(0.02)


async def settled(server, seconds=10.0):
    async with server.jetstream() as js:

        async def nothing_waits():
            info = await js.consumer_info(EVENTS, INVENTORY)
            return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually_async(nothing_waits, seconds, "everything is settled")


async def test_what_comes_by_itself_is_handled_at_once_and_by_itself(server, teller):
    heard = Hearing()
    async with hearing(server, heard):
        for number in range(5):
            began = CLOCK.monotonic()
            await tell(teller, seen(f"{number}"))
            await settled(server)
            assert CLOCK.monotonic() - began < 1
    assert heard.alone == list("01234")
    assert heard.together == []


async def test_what_waits_is_handled_together_and_only_the_newest_counts(server, teller):
    heard = Hearing()
    heard.free.clear()
    told = [seen(f"{round_}", number) for round_ in range(20) for number in range(10)]
    async with hearing(server, heard) as bus:
        await gathered(bus, teller, *told)
        heard.free.set()
        await settled(server)
    assert {reasons[-1] for reasons in heard.reasons.values()} == {"19"}
    assert len(heard.together) == 1, "what gathered behind the first one"
    assert len(heard.alone) + len(heard.together[0]) + heard.superseded == 200


async def test_what_is_told_of_a_host_keeps_its_order(server, teller):
    heard = Hearing()
    heard.free.clear()
    said = [seen(f"{number}", number % 3) for number in range(30)]
    for place in (25, 14, 3):
        said.insert(place, HostDisconnected(host_id=HOSTS[0], reason=f"away {place}", observed_at=NOW))
    said.insert(9, seen("of another host", 7, 1))
    async with hearing(server, heard, superseded=lambda _events: set()) as bus:
        await gathered(bus, teller, *said)
        heard.free.set()
        await settled(server)
    away = [place for place, word in enumerate(heard.hosts) if word.startswith("away")]
    assert [set(heard.hosts[a + 1 : b]) for a, b in zip(away, [*away[1:], None], strict=True)] == [
        {event.reason for event in said[a:b] if event.host_id == HOSTS[0]} - {f"away {place}" for place in (3, 14, 25)}
        for a, b in ((4, 16), (16, 28), (28, None))
    ]
    for reasons in heard.reasons.values():
        assert reasons == sorted(reasons, key=lambda word: int(word) if word.isdigit() else 0)


async def test_exactly_the_bad_one_is_given_up(server, teller):
    heard = Hearing()
    heard.free.clear()
    told = [seen(f"{round_}", number) for round_ in range(5) for number in range(60)]
    told += [seen("bad", 33), seen("bad, and superseded", 44), seen("6", 44)]
    async with hearing(server, heard) as bus:
        await gathered(bus, teller, *told)
        heard.free.set()
        await settled(server)
    assert heard.letters == 1
    assert heard.reasons[UUID(int=133)] == list("01234"), "what it would have superseded counts"
    assert heard.reasons[UUID(int=144)][-1] == "6"
    assert {reasons[-1] for reasons in heard.reasons.values()} == {"4", "6"}


async def test_what_cannot_be_read_is_given_up_and_supersedes_nothing(server, teller):
    heard = Hearing()
    heard.free.clear()
    async with hearing(server, heard) as bus:
        await gathered(bus, teller, *(seen(f"{number}") for number in range(5)))
        await teller.publish_kept(PartitionObserved.subject, {"Nats-Msg-Id": "x"}, b'{"host_id": 1}')
        heard.free.set()
        await settled(server)
    assert heard.letters == 1
    assert heard.reasons[UUID(int=100)][-1] == "4"


async def test_what_cannot_be_done_now_is_done_later(server, teller):
    heard = Hearing()
    heard.free.clear()
    heard.away = 20
    told = [seen(f"{round_}", number) for round_ in range(5) for number in range(10)]
    async with hearing(server, heard, superseded=lambda _events: set()) as bus:
        await gathered(bus, teller, *told)
        heard.free.set()
        await settled(server, 20)
    assert heard.letters == 0
    assert {number: len(reasons) for number, reasons in heard.reasons.items()} == dict.fromkeys(heard.reasons, 5)
    assert len(heard.reasons) == 10


async def test_more_than_there_is_room_for(server, teller, monkeypatch):
    monkeypatch.setattr("openqrm.bus.lanes.MOST_WAITING", 8)
    heard = Hearing()
    await tell(teller, *(seen(f"{number}", number % 7, number % 2) for number in range(150)))
    async with hearing(server, heard, superseded=lambda _events: set()):
        await settled(server)
    assert sum(map(len, heard.reasons.values())) == 150
    for reasons in heard.reasons.values():
        assert reasons == sorted(reasons, key=int)


async def test_what_has_not_begun_at_the_end_goes_to_another_replica_at_once(server, teller):
    heard, other = Hearing(), Hearing()
    heard.free.clear()
    async with hearing(server, heard) as bus:
        await gathered(bus, teller, *(seen(f"{number}", number) for number in range(50)))
        stopping = asyncio.create_task(bus.stop())
        await CLOCK.sleep(0.05)
        heard.free.set()
        await stopping
    async with hearing(server, other):
        await settled(server, 5)
    assert len(heard.reasons) + len(other.reasons) == 50
    assert len(heard.reasons) == 1, "what was at work was finished"


async def test_signs_of_life_are_given_of_what_waits(server, teller, monkeypatch):
    monkeypatch.setattr("openqrm.bus.lanes.SIGN_OF_LIFE_SECONDS", 0.2)
    async with server.jetstream() as js:
        config = (await js.consumer_info(EVENTS, INVENTORY)).config
        await js.add_consumer(EVENTS, config.evolve(ack_wait=1.0))
    monkeypatch.setattr("openqrm.bus.consumer.SIGN_OF_LIFE_SECONDS", 0.3)
    heard = Hearing()
    heard.free.clear()
    await tell(teller, *(seen(f"{number}", number) for number in range(20)))
    async with hearing(server, heard):
        await CLOCK.sleep(2.5)
        heard.free.set()
        await settled(server)
    assert sum(map(len, heard.reasons.values())) == 20, "none was delivered a second time"


def test_a_consumer_without_lanes_has_the_window_of_its_slots():
    bus = type("Bus", (), {"service": "x", "clock": CLOCK})()
    assert Consumer(bus, service_durable(INVENTORY, Kind.EVENT), {}, str, 8).window == 8
