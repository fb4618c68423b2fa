"""Observations that wait together: what is left out makes no difference."""

from datetime import timedelta
from itertools import product

import pytest
from partitions import HOST, NOW, observed_of, partition

from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import PartitionObserved
from openqrm.contracts.states import DesiredState, ObservedState, PartitionState
from openqrm.inventory.domain.superseding import superseded
from openqrm.inventory.flows.reconciling import settle

Seen = ObservedState
SEEN = {
    "running": (Seen.RUNNING, ""),
    "paused": (Seen.PAUSED, ""),
    "stopped": (Seen.STOPPED, ""),
    "shut down": (Seen.STOPPED, "shutdown"),
    "crashed": (Seen.CRASHED, "crashed"),
    "incoming": (Seen.INCOMING, ""),
    "gone": (None, ""),
}
OURS = partition()


def event(what: str, second: int = 0, host_id=HOST) -> PartitionObserved:
    state, reason = SEEN[what]
    return PartitionObserved(
        host_id=host_id,
        partition_id=OURS.id,
        observed=observed_of(OURS, state=state) if state else None,
        reason=reason,
        observed_at=NOW + timedelta(seconds=second),
    )


def left(*words: str) -> list[str]:
    needless = superseded([event(word, second) for second, word in enumerate(words)])
    return [word for place, word in enumerate(words) if place not in needless]


@pytest.mark.parametrize(
    ("came", "stay"),
    [
        (["running"], ["running"]),
        (["paused", "running", "paused"], ["paused"]),
        (["stopped", "gone", "crashed", "running"], ["running"]),
        (["paused", "running", "crashed"], ["running", "crashed"]),
        (["running", "shut down", "stopped"], ["running", "shut down", "stopped"]),
        (["gone", "gone", "gone"], ["gone"]),
        (["crashed", "shut down", "crashed"], ["crashed", "shut down", "crashed"]),
        (["running", "running", "gone", "gone"], ["running", "gone"]),
    ],
)
def test_what_stays(came, stay):
    assert left(*came) == stay


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_what_is_left_out_makes_no_difference(length):
    starts = [
        (PartitionState.RUNNING, DesiredState.RUNNING),
        (PartitionState.PAUSED, DesiredState.PAUSED),
        (PartitionState.STOPPED, DesiredState.STOPPED),
        (PartitionState.CRASHED, DesiredState.RUNNING),
        (PartitionState.MISSING, DesiredState.STOPPED),
    ]
    for words in product(SEEN, repeat=length):
        kept = left(*words)
        assert kept[-1] == words[-1], "the newest one always counts"
        for state, desired in starts:
            one_by_one, together = (partition(state=state, desired_state=desired) for _ in range(2))
            for target, taken in ((one_by_one, words), (together, kept)):
                for word in taken:
                    settle(target, event(word).observed, event(word).reason)
            ends = [(each.state, each.desired_state) for each in (one_by_one, together)]
            assert ends[0] == ends[1], (state, words, kept)


def test_one_that_was_seen_later_and_told_earlier_stays():
    assert superseded([event("paused", 10), event("running", 5), event("running", 6)]) == {1}


def test_what_was_seen_on_another_host_stays():
    assert superseded([event("paused", 1, new_id()), event("running", 2)]) == set()
