"""Which of the observations of one partition, that wait together, still say something. Pure.

What an executor saw is a state, not a step, so the newest one counts. But why a partition ended is told only once, and
whether it should run depends on whether it was seen in memory before: from when it was last seen there, each stays.
"""

from collections.abc import Sequence

from openqrm.contracts.partition import PartitionObserved
from openqrm.contracts.states import ObservedState

_IN_MEMORY = (ObservedState.RUNNING, ObservedState.PAUSED)


def superseded(events: Sequence[PartitionObserved]) -> set[int]:
    """The places of those that need not be taken in, of events about one partition in the order in which they came."""
    needless: set[int] = set()
    newest_in_memory: PartitionObserved | None = None
    following: PartitionObserved | None = None
    for place in range(len(events) - 1, -1, -1):
        event = events[place]
        if newest_in_memory is not None and _replaces(newest_in_memory, event):
            needless.add(place)
            continue
        if following is not None and _replaces(following, event) and _says(following) == _says(event):
            needless.add(place)
            continue
        following = event
        if _state(event) in _IN_MEMORY and newest_in_memory is None:
            newest_in_memory = event
    return needless


def _replaces(newer: PartitionObserved, older: PartitionObserved) -> bool:
    """Whether it was seen later on the same host; what was seen on another one is judged for itself."""
    return newer.host_id == older.host_id and newer.observed_at >= older.observed_at


def _state(event: PartitionObserved) -> ObservedState | None:
    return event.observed.state if event.observed else None


def _says(event: PartitionObserved) -> tuple[ObservedState | None, str]:
    return _state(event), event.reason
