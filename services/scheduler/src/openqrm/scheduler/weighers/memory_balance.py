"""Prefers hosts with much memory left."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import Numbers
from openqrm.scheduler.snapshot import Cluster


class MemoryBalanceWeigher:
    """The share of a host's memory that is free once the partition is on it."""

    name = "memory_balance"

    def weigh(self, cluster: Cluster, request: PlacementRequest) -> Numbers:
        hosts = cluster.hosts
        return (hosts.memory_free - request.memory_mib) / np.maximum(hosts.memory_limit, 1.0)
