"""Each weigher: its value, and which host it prefers."""

from uuid import UUID

import pytest

from openqrm.scheduler.pipeline import Pipeline
from openqrm.scheduler.settings import SchedulerSettings
from openqrm.scheduler.weighers import WEIGHERS

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def two_hosts(projection, make_host, make_partition):
    """kvm1: one partition of 4,000 MiB and 1 vCPU. kvm2: two of 500 MiB and 4 vCPUs."""
    projection.put_host(make_host(1))
    projection.put_host(make_host(2))
    projection.put_partition(make_partition(1, 1, memory_mib=4000, vcpus=1))
    projection.put_partition(make_partition(2, 2, memory_mib=500, vcpus=4))
    projection.put_partition(make_partition(3, 2, memory_mib=500, vcpus=4))
    return projection


def test_every_weigher_has_its_setting():
    settings = SchedulerSettings()
    assert [type(getattr(settings, weigher.name)) for weigher in WEIGHERS] == [float] * len(WEIGHERS)


def test_values(two_hosts, propose):
    scores = {score.host_id: score for score in propose(memory_mib=1000, vcpus=3).scores}
    assert scores[ONE].parts == {"cpu_balance": 0.75, "memory_balance": 0.375, "spread": 0.5}
    assert scores[TWO].parts == {
        "cpu_balance": 0.3125,
        "memory_balance": 0.75,
        "spread": 0.333333,
    }
    assert scores[ONE].total == pytest.approx(0.75 + 0.375 + 0.25)


@pytest.mark.parametrize(
    ("weights", "best"),
    [
        ({"cpu_balance": 1.0}, ONE),
        ({"cpu_balance": -1.0}, TWO),
        ({"memory_balance": 1.0}, TWO),
        ({"memory_balance": -1.0}, ONE),
        ({"spread": 1.0}, ONE),
        ({"spread": -1.0}, TWO),
    ],
)
def test_preference(two_hosts, make_request, weights, best):
    nothing = {weigher.name: 0.0 for weigher in WEIGHERS}
    proposal = Pipeline(nothing | weights).propose(two_hosts.cluster, make_request(99), 0)
    assert proposal.host_id == best
    assert proposal.scores[0].host_id == best
