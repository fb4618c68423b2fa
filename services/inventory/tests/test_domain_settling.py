"""What a partition's state becomes from what is seen of it, and on which side of a broken migration it is."""

from datetime import timedelta

import pytest
from partitions import NETWORKS, NOW, observed_of, partition

from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import (
    CrashPolicy,
    PartitionChanged,
    PartitionCrashed,
    PartitionPaused,
    PartitionStarted,
    PartitionStopped,
    PartitionUnpaused,
    PartitionVanished,
)
from openqrm.contracts.states import DesiredState, ObservedState, PartitionState
from openqrm.inventory.domain.partition import Sighting
from openqrm.inventory.flows.reconciling import _by_policy, is_news, settle, side_of
from openqrm.inventory.settings import InventorySettings

S, Seen, D = PartitionState, ObservedState, DesiredState


@pytest.mark.parametrize(
    ("before", "desired", "seen", "reason", "after", "event"),
    [
        (S.RUNNING, D.RUNNING, Seen.RUNNING, "", S.RUNNING, None),
        (S.RUNNING, D.RUNNING, Seen.PAUSED, "", S.PAUSED, PartitionPaused),
        (S.PAUSED, D.PAUSED, Seen.RUNNING, "", S.RUNNING, PartitionUnpaused),
        (S.STOPPED, D.STOPPED, Seen.RUNNING, "", S.RUNNING, PartitionStarted),
        (S.UNKNOWN, D.RUNNING, Seen.RUNNING, "", S.RUNNING, PartitionChanged),
        (S.UNKNOWN, D.RUNNING, Seen.STOPPED, "", S.CRASHED, PartitionCrashed),
        (S.UNKNOWN, D.STOPPED, Seen.STOPPED, "", S.STOPPED, PartitionStopped),
        (S.MISSING, D.RUNNING, Seen.RUNNING, "", S.RUNNING, PartitionStarted),
        (S.RUNNING, D.RUNNING, Seen.CRASHED, "crashed", S.CRASHED, PartitionCrashed),
        (S.RUNNING, D.RUNNING, Seen.CRASHED, "shut down by its guest", S.CRASHED, PartitionCrashed),
        (S.RUNNING, D.RUNNING, Seen.STOPPED, "shut down by its guest", S.STOPPED, PartitionStopped),
        (S.RUNNING, D.RUNNING, Seen.STOPPED, "", S.CRASHED, PartitionCrashed),
        (S.CRASHED, D.RUNNING, Seen.STOPPED, "", S.CRASHED, None),
        (S.STOPPED, D.STOPPED, Seen.CRASHED, "", S.STOPPED, None),
        (S.RUNNING, D.RUNNING, Seen.INCOMING, "", S.RUNNING, None),
        (S.RUNNING, D.RUNNING, None, "", S.MISSING, PartitionVanished),
        (S.MISSING, D.RUNNING, None, "", S.MISSING, None),
    ],
)
def test_seen(before, desired, seen, reason, after, event):
    ours = partition(state=before, desired_state=desired)
    observed = observed_of(ours, state=seen) if seen else None
    assert settle(ours, observed, reason) is event
    assert ours.state is after


def test_no_news_is_told_from_news_without_touching_the_partition():
    ours = partition()
    assert not is_news(ours, Sighting(observed=observed_of(ours), reason="", at=NOW), NETWORKS)
    gone = Sighting(observed=None, reason="", at=NOW)
    assert is_news(ours, gone, NETWORKS)
    assert ours.state is S.RUNNING
    ours.seen_at = NOW + timedelta(seconds=1)
    assert not is_news(ours, gone, NETWORKS), "seen before what is known already"
    ours.operation_id = ours.id
    assert is_news(ours, gone, NETWORKS), "kept until the operation has ended"


def test_crash_policy_counts_within_its_window():
    settings = InventorySettings(crash_restarts=2, crash_window_seconds=60)
    ours = partition()
    assert [_by_policy(ours, settings, NOW)[0] for _ in range(3)] == [True, True, False]
    restart, why = _by_policy(ours, settings, NOW + timedelta(seconds=61))
    assert restart, why
    assert len(ours.crashes) == 1, "what is older than the window is forgotten"


def test_crash_policy_can_leave_it_down():
    ours = partition(on_crash=CrashPolicy.STAY)
    assert _by_policy(ours, InventorySettings(), NOW) == (False, "it stays down, as its policy says")


@pytest.mark.parametrize(
    ("source", "target", "side"),
    [
        (Seen.RUNNING, "unread", RunsOn.SOURCE),
        ("unread", Seen.RUNNING, RunsOn.TARGET),
        (Seen.STOPPED, "unread", RunsOn.UNKNOWN),
        (Seen.PAUSED, "unread", RunsOn.UNKNOWN),
        ("unread", Seen.PAUSED, RunsOn.UNKNOWN),
        (None, "unread", RunsOn.UNKNOWN),
        ("unread", None, RunsOn.UNKNOWN),
        (None, Seen.STOPPED, RunsOn.TARGET),
        (None, Seen.INCOMING, RunsOn.NEITHER),
        (Seen.PAUSED, Seen.INCOMING, RunsOn.SOURCE),
        (Seen.STOPPED, Seen.STOPPED, RunsOn.SOURCE),
        (Seen.STOPPED, None, RunsOn.SOURCE),
        (None, None, RunsOn.NEITHER),
        ("unread", "unread", RunsOn.UNKNOWN),
    ],
)
def test_side_of_a_broken_migration(source, target, side):
    def sighting(state):
        if state == "unread":
            return None
        return Sighting(observed=observed_of(partition(), state=state) if state else None, reason="", at=NOW)

    assert side_of(sighting(source), sighting(target)) is side
