"""What a filter is."""

from typing import Protocol

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class Filter(Protocol):
    """One reason for which a host cannot take a partition. Pure; a new one is a new file and a line in FILTERS."""

    name: str
    """How `refused_by` and refusals call it."""

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        """Which rows pass; None when all do, because the request does not ask for it. Empty rows do not matter."""

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        """One sentence: why the host of a row that did not pass is refused."""
