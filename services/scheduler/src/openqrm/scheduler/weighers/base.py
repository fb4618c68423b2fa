"""What a weigher is."""

from typing import Protocol

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import Numbers
from openqrm.scheduler.snapshot import Cluster


class Weigher(Protocol):
    """One thing that makes a host better than another. Pure; a new one is a new file, a setting, a line in WEIGHERS."""

    name: str
    """How scores call it; also the setting that it is multiplied by."""

    def weigh(self, cluster: Cluster, request: PlacementRequest) -> Numbers:
        """A value per row, 0..1 wherever the host can take the partition; elsewhere it does not matter."""
