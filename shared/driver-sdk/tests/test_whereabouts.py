"""Which side has a partition after a migration, told from what both sides show."""

import pytest

from openqrm.contracts.execution import RunsOn
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.states import ObservedState
from openqrm.driver.executor.whereabouts import Whereabouts


def _seen(state: str) -> tuple[ObservedPartition | None, bool]:
    if state == "unreadable":
        return None, False
    if state == "gone":
        return None, True
    return ObservedPartition(id=new_id(), name="x", state=ObservedState(state), epoch=1), True


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("running", "gone", RunsOn.SOURCE),
        ("running", "incoming", RunsOn.SOURCE),
        ("paused", "incoming", RunsOn.SOURCE),
        ("stopped", "gone", RunsOn.SOURCE),
        ("gone", "running", RunsOn.TARGET),
        ("gone", "stopped", RunsOn.TARGET),
        ("stopped", "running", RunsOn.TARGET),
        ("paused", "running", RunsOn.TARGET),
        ("running", "stopped", RunsOn.SOURCE),
        ("running", "running", RunsOn.UNKNOWN),
        ("stopped", "stopped", RunsOn.UNKNOWN),
        ("gone", "gone", RunsOn.NEITHER),
        ("gone", "incoming", RunsOn.NEITHER),
        ("unreadable", "gone", RunsOn.UNKNOWN),
        ("running", "unreadable", RunsOn.UNKNOWN),
    ],
)
def test_where_it_is(source: str, target: str, expected: RunsOn) -> None:
    assert Whereabouts(_seen(source), _seen(target)).runs_on is expected
