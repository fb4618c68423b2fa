"""Prefers hosts with few partitions, so that one that fails takes few down."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import Numbers
from openqrm.scheduler.snapshot import Cluster


class SpreadWeigher:
    """1 on an empty host, 1/2 beside one partition, 1/3 beside two, and so on."""

    name = "spread"

    def weigh(self, cluster: Cluster, request: PlacementRequest) -> Numbers:  # noqa: ARG002 - as in Weigher
        return 1.0 / (cluster.hosts.partitions + 1.0)
