"""One line of the table: what was measured, what it is held against, and whether that is good enough."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Explain = Callable[[], Awaitable[str]]
"""Says where the time goes; called at once when a row misses its goal, while everything measured still runs."""


@dataclass(frozen=True)
class Goal:
    """A limit on a row's value, or on its ratio to the peer."""

    limit: float
    side: Literal["<=", ">="] = "<="
    of: Literal["value", "ratio"] = "value"

    def met_by(self, row: "Row") -> bool:
        """Whether a measured row keeps it."""
        figure = row.ratio if self.of == "ratio" else row.value
        if figure is None:
            return False
        return figure <= self.limit if self.side == "<=" else figure >= self.limit

    def __str__(self) -> str:
        return f"{self.side} {self.limit:g}" + ("x" if self.of == "ratio" else "")


@dataclass(frozen=True)
class Attempt:
    """Rows that are still to be measured. Should that fail, one row of this name says so, and the next are measured."""

    name: str
    measure: Callable[[], Awaitable["Row | Sequence[Row]"]]

    async def rows(self) -> list["Row"]:
        """Measure them."""
        try:
            found = await self.measure()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the others from being measured
            return [failure(self.name, error)]
        return [found] if isinstance(found, Row) else list(found)


@dataclass
class Row:
    """A measured figure.

    Attributes:
        name: what was measured, with its size, such as "start, one at a time".
        value: the figure; None when the measuring failed.
        unit: of value and peer_value.
        peer: what it is held against, measured in the same minute: another way, or a floor.
        peer_value: the peer's figure.
        goal: the limit, if this row has one.
        note: what else was measured along with it; printed under the table.
        explain: where the time goes; asked for when the goal is missed.
        flaw: what was wrong although there is a figure, such as requests that timed out; a goal is then missed.
        failed: why there is no figure.
    """

    name: str
    value: float | None
    unit: str
    peer: str = ""
    peer_value: float | None = None
    goal: Goal | None = None
    note: str = ""
    explain: Explain | None = None
    flaw: str = ""
    failed: str = ""
    explanation: str = field(default="", init=False)
    group: str = field(default="", init=False)

    @property
    def ratio(self) -> float | None:
        """How often the peer's figure goes into this one."""
        if self.value is None or not self.peer_value:
            return None
        return self.value / self.peer_value

    @property
    def met(self) -> bool | None:
        """Whether the goal is kept; None when there is none."""
        return None if self.goal is None else self.goal.met_by(self) and not self.flaw

    def as_json(self) -> dict[str, Any]:
        """The entry of build/bench.json."""
        return {
            "group": self.group,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer or None,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "goal": str(self.goal) if self.goal else None,
            "met": self.met,
            "failed": self.failed or None,
            "flaw": self.flaw or None,
            "note": self.note or None,
            "explanation": self.explanation or None,
        }


def failure(name: str, error: Exception) -> Row:
    """The row of something that could not be measured."""
    return Row(name, None, "", failed=f"{type(error).__name__}: {error}".strip(": ")[:900])
