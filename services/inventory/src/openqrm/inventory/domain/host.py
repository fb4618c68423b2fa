"""A host as inventory works on it, and what it looks like to others."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from openqrm.contracts.host import HostConnection, HostFacts, HostView
from openqrm.contracts.states import HostState


@dataclass
class Host:
    """The mutable aggregate: read in a transaction, changed, and saved with a raised revision."""

    id: UUID
    revision: int
    name: str
    technology: str
    state: HostState
    state_reason: str
    usual_state: HostState
    connection: HostConnection
    tags: tuple[str, ...]
    cpu_overcommit: float
    memory_overcommit: float
    memory_reserve_mib: int
    facts: HostFacts | None
    cpus_reserved: int
    memory_reserved_mib: int
    partitions: int
    operation_id: UUID | None
    last_seen_at: datetime | None
    created_at: datetime
    updated_at: datetime
    saved_revision: int = 0

    def settle(self, state: HostState, reason: str = "") -> None:
        """Enter a state that lasts: the one to return to after an outage."""
        self.state = self.usual_state = state
        self.state_reason = reason

    def view(self) -> HostView:
        """The host as others see it."""
        return HostView(
            id=self.id,
            revision=self.revision,
            name=self.name,
            technology=self.technology,
            state=self.state,
            state_reason=self.state_reason,
            connection=self.connection,
            tags=self.tags,
            cpu_overcommit=self.cpu_overcommit,
            memory_overcommit=self.memory_overcommit,
            memory_reserve_mib=self.memory_reserve_mib,
            facts=self.facts,
            cpus_reserved=self.cpus_reserved,
            memory_reserved_mib=self.memory_reserved_mib,
            partitions=self.partitions,
            operation_id=self.operation_id,
            last_seen_at=self.last_seen_at,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )
