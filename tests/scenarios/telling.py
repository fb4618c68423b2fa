"""Events as lines of a log: from their fields, with names for ids, so that the same story always reads the same."""

from pydantic import BaseModel

from openqrm.contracts.host import HostEvent
from openqrm.contracts.operation import OperationEvent
from openqrm.contracts.partition import PartitionDiscovered, PartitionEvent
from openqrm.contracts.states import FINAL_OPERATION_STATES, OperationState


def tell(subject: str, event: BaseModel) -> tuple[str, str] | None:
    """What it is about, and the line; None for what happens on the way."""
    if isinstance(event, PartitionEvent) and subject != "partition.changed":
        partition = event.partition
        place = f" on {partition.host_name}" if partition.host_name else ""
        line = f"{subject} {partition.name!r}: {partition.state}{place}, epoch {partition.epoch}"
        if subject == "partition.drifted":
            line += "".join(f", {d.field} {d.found} instead of {d.wanted}" for d in partition.drift) or ", agrees"
        return f"partition {partition.name}", line
    if isinstance(event, PartitionDiscovered):
        name = event.observed.name
        return f"partition {name}", f"{subject} {name!r}: {event.observed.state} on {event.host_name}"
    if isinstance(event, HostEvent) and subject != "host.changed":
        return f"host {event.host.name}", f"{subject} {event.host.name}: {event.host.state}"
    if isinstance(event, OperationEvent):
        operation = event.operation
        ended = operation.state in FINAL_OPERATION_STATES
        if ended or operation.state in (OperationState.QUEUED, OperationState.WAITING):
            code = f" ({operation.error.code})" if operation.error else ""
            counts = operation.error.details.get("refused_by", {}) if operation.error else {}
            why = "".join(f", {name} refused {count}" for name, count in sorted(counts.items()))
            line = f"operation {operation.verb} {operation.target_name!r}: {operation.state}{code}{why}"
            return f"operation {operation.target_name} {operation.verb}", line
    return None


def log_of(events: list[tuple[str, BaseModel]]) -> list[str]:
    """The lines of what was told during one step: by thing, and for each thing in the order of its facts."""
    told = [found for subject, event in events if (found := tell(subject, event)) is not None]
    lines = [line for _, line in sorted(told, key=lambda found: found[0])]
    return [line for number, line in enumerate(lines) if number == 0 or line != lines[number - 1]]
