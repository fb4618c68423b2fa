"""What is read of an event about a partition: the few fields that placement needs.

Reading a whole PartitionView takes ten times as long, and every event of every partition is read.
"""

from pydantic import BaseModel, ConfigDict

from openqrm.contracts.placement import PlacedPartition


class PlacementChanged(BaseModel):
    """The part of any PartitionEvent that matters here."""

    model_config = ConfigDict(frozen=True)

    partition: PlacedPartition
