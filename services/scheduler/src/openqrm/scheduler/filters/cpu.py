"""Hosts without enough CPU."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.words import number


class CpuFilter:
    """Refuses hosts that have fewer vCPUs left, over-commit ratio counted, than the partition takes."""

    name = "cpu"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        enough: Mask = cluster.hosts.cpu_free >= request.vcpus
        return enough

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        hosts = cluster.hosts
        if hosts.view(row).facts is None:
            return "How many CPUs it has is not known: its executor has not read its facts yet."
        free, limit = hosts.cpu_free[row], hosts.cpu_limit[row]
        return f"{number(free)} of {number(limit)} vCPUs are free, {number(request.vcpus)} are asked for."
