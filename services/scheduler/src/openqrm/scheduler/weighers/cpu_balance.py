"""Prefers hosts with much CPU left."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import Numbers
from openqrm.scheduler.snapshot import Cluster


class CpuBalanceWeigher:
    """The share of a host's vCPUs that is free once the partition is on it."""

    name = "cpu_balance"

    def weigh(self, cluster: Cluster, request: PlacementRequest) -> Numbers:
        hosts = cluster.hosts
        return (hosts.cpu_free - request.vcpus) / np.maximum(hosts.cpu_limit, 1.0)
