"""Hosts of another technology."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class TechnologyFilter:
    """Refuses hosts of another technology than the one asked for."""

    name = "technology"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if request.technology is None:
            return None
        wanted: Mask = cluster.hosts.technology == cluster.hosts.technology_number(request.technology)
        return wanted

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        return f"It runs {cluster.hosts.view(row).technology}, and {request.technology} is asked for."
