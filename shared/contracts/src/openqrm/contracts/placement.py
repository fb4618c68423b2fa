"""Placement: which host can take a partition, and why each other one cannot."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Tag, Technology
from openqrm.contracts.message import SCHEDULER, Query
from openqrm.contracts.states import PartitionState
from openqrm.contracts.technology import Capability

MAX_EXPLAINED = 200
"""Hosts explained one by one in a proposal; the counts cover all of them."""


class PlacementRequest(BaseModel):
    """What a partition needs from a host."""

    model_config = ConfigDict(frozen=True)

    partition_id: UUID
    technology: Technology | None = Field(description="None: any")
    memory_mib: int
    vcpus: int
    host_tags: tuple[Tag, ...] = ()
    network_ids: tuple[UUID, ...] = ()
    disk_mib: int = Field(default=0, description="MiB that its disks will take from the host's storage")
    capabilities: frozenset[Capability] = frozenset()
    only_host_id: UUID | None = Field(default=None, description="Judge this host only")
    excluded_host_ids: frozenset[UUID] = frozenset()
    needs_shared_storage_with: UUID | None = Field(
        default=None,
        description="A host whose storage the chosen one must share, for a move that leaves disks behind",
    )
    explained: int = Field(
        default=MAX_EXPLAINED, ge=2, le=MAX_EXPLAINED, description="Hosts to explain one by one; fewer are faster"
    )


class Refusal(BaseModel):
    """A host that cannot take it, and why."""

    model_config = ConfigDict(frozen=True)

    host_id: UUID
    host_name: str
    filter: str = Field(description="The filter that refused it, such as memory")
    reason: str


class Score(BaseModel):
    """A host that can take it, and how good it is."""

    model_config = ConfigDict(frozen=True)

    host_id: UUID
    host_name: str
    total: float = Field(description="Higher is better")
    parts: dict[str, float] = Field(description="By weigher, each 0..1 before its multiplier")


class PlacementProposal(BaseModel):
    """The scheduler's answer."""

    model_config = ConfigDict(frozen=True)

    host_id: UUID | None = Field(description="None: no host fits")
    scores: tuple[Score, ...] = Field(description=f"Best first; at most {MAX_EXPLAINED}")
    refusals: tuple[Refusal, ...] = Field(description=f"At most {MAX_EXPLAINED}")
    refused_by: dict[str, int] = Field(description="How many hosts each filter refused")
    hosts_considered: int
    projection_sequence: int = Field(description="Sequence of the last event that the scheduler had seen")


class PlacedPartition(BaseModel):
    """Where a partition is and what it takes there: the part of a PartitionView that placement needs."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int
    state: PartitionState
    host_id: UUID | None
    target_host_id: UUID | None
    memory_mib: int
    vcpus: int


MAX_PLACED = 4000
"""Partitions on one page of placements: what fits into one message."""


class PlacementPage(BaseModel):
    """One page of all placements, by the partitions' ids."""

    model_config = ConfigDict(frozen=True)

    items: tuple[PlacedPartition, ...]
    is_last: bool


class ListPlacements(Query[PlacementPage], subject="placement.list"):
    """Every live partition in short, for whoever places: a whole PartitionView takes ten times as long to read."""

    after: UUID | None = Field(default=None, description="Those with a higher id; left out, from the first on")
    limit: int = Field(default=MAX_PLACED, ge=1, le=MAX_PLACED)


class ProposePlacement(Query[PlacementProposal], subject="placement.propose", consumers=(SCHEDULER,)):
    """Choose a host for a partition; nothing is reserved by this."""

    request: PlacementRequest
