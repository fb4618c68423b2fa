"""The service: answers only when it is built, follows from the noted sequence, builds anew when events are missing."""

import asyncio
from types import SimpleNamespace

import pytest

from openqrm.bus.follow import Followed
from openqrm.bus.stream_state import StreamState
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.host import HostActivated, HostChanged
from openqrm.contracts.message import Kind, messages_of
from openqrm.contracts.paging import Page
from openqrm.contracts.placement import PlacementPage, ProposePlacement
from openqrm.contracts.technology import TechnologyList
from openqrm.scheduler.app import SchedulerService, events_are_missing
from openqrm.scheduler.settings import SchedulerSettings
from openqrm.scheduler.subscribers import apply_event, followed_subjects


class FakeBus:
    """As much of a bus as the scheduler uses."""

    service = "scheduler"

    def __init__(self):
        self.state = StreamState("made once", 1, 41)
        self.hosts = ()
        self.inventory_is_away = False
        self.answers = {}
        self.followed = []
        self.followed_again = asyncio.Event()
        self.stopped = False

    def answer(self, model, handler):
        self.answers[model] = handler

    async def start(self):
        pass

    async def stop(self):
        self.stopped = True

    async def stream_state(self, stream):
        assert stream == "EVENTS"
        return self.state

    async def request(self, query, timeout=5.0):
        if self.inventory_is_away:
            raise TemporaryError("No service answers.")
        if query.subject == "technology.list":
            return TechnologyList(items=())
        if query.subject == "placement.list":
            return PlacementPage(items=(), is_last=True)
        return Page[object].model_construct(items=self.hosts if query.subject == "host.list" else (), next_cursor=None)

    async def follow(self, stream, deliver, from_sequence, subjects, on_anew):
        self.followed.append(
            SimpleNamespace(deliver=deliver, from_sequence=from_sequence, subjects=subjects, on_anew=on_anew)
        )
        if len(self.followed) > 1:
            self.followed_again.set()
        return self.followed[-1]

    async def unfollow(self, follower):
        follower.ended = True


@pytest.fixture
def bus():
    return FakeBus()


@pytest.fixture
async def service(bus):
    service = SchedulerService(bus, SystemClock(), SchedulerSettings(retry_seconds=0.01, check_seconds=0.01))
    yield service
    await service.stop()
    assert bus.stopped


async def built(service):
    await asyncio.wait_for(service.wait_until_built(), 5)


async def test_propose_placement_once_the_projection_is_built(bus, service, make_host, make_request):
    bus.inventory_is_away = True
    bus.hosts = (make_host(1),)
    await service.start()
    ask = bus.answers[ProposePlacement]
    with pytest.raises(TemporaryError, match="is being built"):
        await ask(ProposePlacement(request=make_request()))
    assert not service.is_ready
    assert service.projection_sequence is None
    bus.inventory_is_away = False
    await built(service)
    proposal = await ask(ProposePlacement(request=make_request()))
    assert proposal.host_id == make_host(1).id
    assert proposal.projection_sequence == 41


async def test_it_follows_from_the_sequence_noted_before_the_lists(bus, service, make_host, make_request):
    await service.start()
    await built(service)
    follower = bus.followed[0]
    assert follower.from_sequence == 42
    body = HostActivated(host=make_host(1)).model_dump_json().encode()
    await follower.deliver(Followed(43, "host.activated", {}, body))
    assert service.projection_sequence == 43
    assert service.propose_placement(ProposePlacement(request=make_request())).hosts_considered == 1


async def test_an_event_that_cannot_be_read_is_passed_over(bus, service):
    await service.start()
    await built(service)
    await bus.followed[0].deliver(Followed(42, "host.activated", {}, b"{}"))
    await bus.followed[0].deliver(Followed(43, "nothing.known", {}, b"{}"))
    assert service.projection_sequence == 43


async def test_it_builds_anew_when_events_are_missing(bus, service):
    await service.start()
    await built(service)
    bus.state = StreamState("made once", 900, 1000)
    await asyncio.wait_for(bus.followed_again.wait(), 5)
    assert bus.followed[0].ended
    assert bus.followed[1].from_sequence == 1001


async def test_it_builds_anew_at_once_when_the_stream_was_made_anew(bus):
    service = SchedulerService(bus, SystemClock(), SchedulerSettings(retry_seconds=0.01, check_seconds=600))
    await service.start()
    await built(service)
    bus.state = StreamState("made again", 42, 50)
    await bus.followed[0].on_anew()
    await asyncio.wait_for(bus.followed_again.wait(), 5)
    assert bus.followed[1].from_sequence == 51
    await service.stop()


@pytest.mark.parametrize(
    ("sequence", "first", "last", "missing"),
    [
        (0, 0, 0, False),
        (0, 1, 0, False),
        (41, 1, 41, False),
        (41, 42, 41, False),
        (41, 42, 60, False),
        (41, 43, 60, True),
        (41, 1, 7, True),
    ],
)
def test_events_are_missing(sequence, first, last, missing):
    assert events_are_missing(sequence, first, last) is missing


def test_the_followed_subjects_are_those_with_a_host_partition_network_or_manifest():
    expected = {
        model.subject
        for model in messages_of(Kind.EVENT)
        if {"host", "partition", "network", "manifest"} & set(model.model_fields)
    }
    assert set(followed_subjects()) == expected
    assert "partition.migrated" in expected


def test_events_are_read_from_json(projection, make_host):
    apply_event(projection, "host.changed", HostChanged(host=make_host(1)).model_dump_json().encode())
    assert projection.cluster.hosts.count == 1
