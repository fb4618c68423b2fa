"""What the client asked for, and what it was told: all that the oracle takes for granted."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from openqrm.contracts.operation import OperationView
from openqrm.contracts.states import FINAL_OPERATION_STATES, OperationState


@dataclass
class Promise:
    """One operation. Times in seconds from the beginning of the load."""

    operation_id: UUID
    verb: str
    """The command's subject, such as partition.start."""
    target: str
    """The id of the partition, or the name of something else."""
    name: str
    method: str
    path: str
    body: dict[str, Any] | None
    asked_at: float
    hints: dict[str, Any] = field(default_factory=dict)
    """What the client knew of the target when it asked, such as the network of the NIC that it names."""
    attempts: int = 0
    told_at: float | None = None
    """When it was acknowledged or refused first."""
    told: OperationView | None = None
    """What was told last."""
    refused: dict[str, Any] | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the client was told that it is taken."""
        return self.told is not None

    @property
    def state(self) -> OperationState | None:
        """How far it is, as told."""
        return self.told.state if self.told else None

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self.refused is not None or self.state in FINAL_OPERATION_STATES

    def __str__(self) -> str:
        if self.refused is not None:
            what = f"refused: {self.refused.get('detail')}"
        elif self.told is None:
            what = f"never acknowledged ({self.attempts} attempts)"
        else:
            error = f": {self.told.error.message}" if self.told.error else f" {self.told.step}"
            what = f"{self.told.state}{error}"
        return f"{self.asked_at:5.1f} s  {self.verb} of {self.name} ({self.operation_id}) {self.body or ''} → {what}"


class Ledger:
    """All promises of a round, and answers that no client should get."""

    def __init__(self) -> None:
        self.promises: dict[UUID, Promise] = {}
        self.complaints: list[str] = []
        self.strangers: set[UUID] = set()
        """Partitions that the test itself made by hand on a host."""

    def add(self, promise: Promise) -> None:
        """Note that something is asked for."""
        self.promises[promise.operation_id] = promise

    def of(self, target: str) -> list[Promise]:
        """What was asked of a target, in the order of asking."""
        return [promise for promise in self.promises.values() if promise.target == target]

    def open(self) -> list[Promise]:
        """What was acknowledged and has not ended, as far as was told."""
        return [promise for promise in self.promises.values() if promise.acknowledged and not promise.ended]

    def summary(self) -> str:
        """How many ended how."""
        counts: dict[str, int] = {}
        for promise in self.promises.values():
            word = "refused" if promise.refused else str(promise.state or "unacknowledged")
            counts[word] = counts.get(word, 0) + 1
        return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
