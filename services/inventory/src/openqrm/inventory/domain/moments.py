"""Times that other machines tell, brought to the clock of this one. Pure.

No two clocks agree, and any of them may be set. What decides which of two observations is the newer one is therefore
counted by one clock: a moment at which both had arrived somewhere, less how old each was when it was sent. For what is
seen of partitions that is the moment at which the bus took it: how long a message waited there for an inventory that
was away says nothing about its age. For whether a host answers it is inventory's own.
"""

from datetime import datetime, timedelta

OLDEST = timedelta(days=1)
"""An age beyond this is no age, but a clock that was set in between."""
ASTRAY = timedelta(minutes=1)
"""A time so far in the future was noted before the clock was set back, and compares with nothing."""


def seen_at(observed_at: datetime, sent_at: datetime | None, arrived_at: datetime) -> datetime:
    """When something was seen, by the clock by which it arrived; both times of the sender are by the sender's."""
    age = (sent_at or arrived_at) - observed_at
    return arrived_at - age if timedelta(0) <= age <= OLDEST else arrived_at


def known_since(moment: datetime | None, now: datetime) -> datetime | None:
    """A time that was noted earlier; None when it cannot be compared with."""
    return None if moment is None or moment > now + ASTRAY else moment


class BusClock:
    """Notices that the clock of NATS was set back: a message that comes later in the stream has an earlier time."""

    def __init__(self) -> None:
        self._latest: tuple[int, datetime] | None = None
        self._set_back_at: int | None = None
        """The number of a message after the clock was set back."""

    def now(self, sequence: int, published_at: datetime, now: datetime) -> datetime:
        """What time it is at the most, for times that NATS gave, when this message is handled.

        `now` is inventory's time: a message may be old, and one that waited is not from before anything for that.
        """
        if self._latest is not None and sequence > self._latest[0] and published_at + ASTRAY < self._latest[1]:
            self._set_back_at = sequence
            self._latest = None
        if self._latest is None or published_at > self._latest[1]:
            self._latest = (sequence, published_at)
        after = self._set_back_at is not None and sequence >= self._set_back_at
        return published_at if after else now
