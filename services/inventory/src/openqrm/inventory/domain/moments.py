"""Times that other machines tell, brought to the clock of this one. Pure.

No two clocks agree, and any of them may be set. What decides which of two observations is the newer one is therefore
counted by one clock, inventory's: the moment at which it heard of it, less how old it was when it was sent.
"""

from datetime import datetime, timedelta

OLDEST = timedelta(days=1)
"""An age beyond this is no age, but a clock that was set in between."""
ASTRAY = timedelta(minutes=1)
"""A time so far in the future was noted before the clock was set back, and compares with nothing."""


def seen_at(observed_at: datetime, sent_at: datetime | None, now: datetime) -> datetime:
    """When something was seen, by inventory's clock; both times of the sender are by the sender's."""
    age = (sent_at or now) - observed_at
    return now - age if timedelta(0) <= age <= OLDEST else now


def known_since(moment: datetime | None, now: datetime) -> datetime | None:
    """A time that was noted earlier; None when it cannot be compared with."""
    return None if moment is None or moment > now + ASTRAY else moment
