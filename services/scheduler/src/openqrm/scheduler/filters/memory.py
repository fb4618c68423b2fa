"""Hosts without enough memory."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.words import number


class MemoryFilter:
    """Refuses hosts that have less memory left, over-commit ratio and reserve counted, than the partition takes."""

    name = "memory"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        enough: Mask = cluster.hosts.memory_free >= request.memory_mib
        return enough

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        hosts = cluster.hosts
        if hosts.view(row).facts is None:
            return "How much memory it has is not known: its executor has not read its facts yet."
        free, limit = hosts.memory_free[row], hosts.memory_limit[row]
        return f"{number(free)} of {number(limit)} MiB of memory are free, {number(request.memory_mib)} are asked for."
