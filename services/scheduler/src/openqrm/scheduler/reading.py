"""What is read of partitions: the few fields that placement needs.

Reading a whole PartitionView takes ten times as long, and a start reads every partition there is.
"""

from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from openqrm.contracts.message import Query
from openqrm.contracts.paging import Page, Paging
from openqrm.contracts.partition import ListPartitions, PartitionSort
from openqrm.contracts.states import PartitionState


class PlacedPartition(BaseModel):
    """The part of a PartitionView that says where it is and what it takes."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int
    state: PartitionState
    host_id: UUID | None
    target_host_id: UUID | None
    memory_mib: int
    vcpus: int


class PlacementChanged(BaseModel):
    """The part of any PartitionEvent that matters here."""

    model_config = ConfigDict(frozen=True)

    partition: PlacedPartition


class ListPlacedPartitions(Query[Page[PlacedPartition]]):
    """`partition.list`, of whose answer only these parts are read.

    By the time of making, which never changes: nothing can slip from a page not read yet to one that was.
    """

    subject: ClassVar[str] = ListPartitions.subject

    sort: PartitionSort = PartitionSort.CREATED_AT
    paging: Paging
