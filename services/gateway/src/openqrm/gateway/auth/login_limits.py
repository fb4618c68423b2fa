"""Failed logins are counted per user and address; after a few each further one has to wait, longer every time."""

from collections import OrderedDict
from dataclasses import dataclass

from openqrm.contracts.clock import Clock

FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 900.0
FORGOTTEN_SECONDS = 3600.0
ADDRESS_FACTOR = 10
"""An address may fail this many times more often than one user from it: many people sit behind one."""
MAX_REMEMBERED = 20_000


@dataclass
class _Failures:
    count: int = 0
    last_at: float = 0.0
    until: float = 0.0


class LoginLimits:
    """In memory, per replica; the oldest are forgotten first when there are too many."""

    def __init__(self, clock: Clock, failures: int) -> None:
        self._clock = clock
        self._free = failures
        self._failed: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def wait(self, user: str, address: str) -> float:
        """Seconds until this user may try again from this address; 0: now."""
        now = self._clock.monotonic()
        return max((self._failed[key].until - now for key in _keys(user, address) if key in self._failed), default=0.0)

    def failed(self, user: str, address: str) -> None:
        """Count a failure."""
        now = self._clock.monotonic()
        for key, free in zip(_keys(user, address), (self._free, self._free * ADDRESS_FACTOR), strict=True):
            entry = self._failed.pop(key, None)
            if entry is None or now - entry.last_at > FORGOTTEN_SECONDS:
                entry = _Failures()
            entry.count += 1
            entry.last_at = now
            if entry.count >= free:
                entry.until = now + min(FIRST_WAIT_SECONDS * 2.0 ** min(entry.count - free, 20), LONGEST_WAIT_SECONDS)
            self._failed[key] = entry
        while len(self._failed) > MAX_REMEMBERED:
            self._failed.popitem(last=False)

    def succeeded(self, user: str, address: str) -> None:
        """Forget the user's failures; the address's stay, or one known password would free the guessing of others."""
        self._failed.pop(_keys(user, address)[0], None)


def _keys(user: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (user, address), ("", address)
