"""Failures that a partition's name asks for. Pure.

A name may contain any number of words of this grammar, such as `web 1 !start-fails=2`:

| word                   | meaning                                                                          |
|------------------------|----------------------------------------------------------------------------------|
| `!<verb>-fails`        | the verb fails for good (DriverError); `=<n>`: only the first n times            |
| `!<verb>-falters`      | it fails for the moment (TemporaryError); `=<n>`: only the first n times         |
| `!<verb>-breaks`       | it raises an exception that no driver should raise; `=<n>` likewise              |
| `!<verb>-hangs`        | it never returns; `=<n>` likewise                                                |
| `!<verb>-slow=<s>`     | it takes so many seconds longer                                                  |
| `!migrate-ends-on=<w>` | the migration fails, and the partition is on: source, target, neither, unknown   |
| `!crash-after=<s>`     | so many seconds after each start it crashes                                      |
| `!off-after=<s>`       | so many seconds after each start its guest shuts itself down                     |
| `!ignores-shutdown`    | its guest does not listen to being asked to shut down                            |

`<verb>` is the name of a driver's method, such as create, start, shutdown, attach_nic, migrate, observe_partition.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from openqrm.contracts.execution import RunsOn


class Trouble(StrEnum):
    """What can go wrong with a verb."""

    FAILS = "fails"
    FALTERS = "falters"
    BREAKS = "breaks"
    HANGS = "hangs"


@dataclass(frozen=True)
class Script:
    """What a name asks for."""

    troubles: dict[str, tuple[Trouble, int | None]] = field(default_factory=dict)
    """By verb: what goes wrong, and how many times at the most."""
    slow: dict[str, float] = field(default_factory=dict)
    """By verb: seconds that it takes longer."""
    migration_ends_on: RunsOn | None = None
    crash_after: float | None = None
    off_after: float | None = None
    ignores_shutdown: bool = False


_NUMBER = r"(?P<number>\d+(?:\.\d+)?)"
_TROUBLE = re.compile(r"!(?P<verb>[a-z_]+)-(?P<trouble>fails|falters|breaks|hangs)(?:=(?P<times>\d+))?(?!\S)")
_SLOW = re.compile(rf"!(?P<verb>[a-z_]+)-slow={_NUMBER}(?!\S)")
_ENDS_ON = re.compile(r"!migrate-ends-on=(?P<side>source|target|neither|unknown)(?!\S)")
_AFTER = re.compile(rf"!(?P<what>crash|off)-after={_NUMBER}(?!\S)")
_NOTHING = Script()


def parse_script(name: str) -> Script:
    """Read a partition's name; words that are not of the grammar are part of the name and nothing else."""
    if "!" not in name:
        return _NOTHING
    after = {match["what"]: float(match["number"]) for match in _AFTER.finditer(name)}
    ends_on = _ENDS_ON.search(name)
    return Script(
        troubles={
            match["verb"]: (Trouble(match["trouble"]), int(match["times"]) if match["times"] else None)
            for match in _TROUBLE.finditer(name)
        },
        slow={match["verb"]: float(match["number"]) for match in _SLOW.finditer(name)},
        migration_ends_on=RunsOn(ends_on["side"]) if ends_on else None,
        crash_after=after.get("crash"),
        off_after=after.get("off"),
        ignores_shutdown=bool(re.search(r"!ignores-shutdown(?!\S)", name)),
    )
