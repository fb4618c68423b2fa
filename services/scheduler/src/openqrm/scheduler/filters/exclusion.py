"""Hosts that the asker does not want."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class ExclusionFilter:
    """Refuses the hosts that the request excludes, such as the one that a partition is to leave."""

    name = "exclusion"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if not request.excluded_host_ids:
            return None
        mask = np.ones(cluster.hosts.length, dtype=np.bool_)
        for host_id in request.excluded_host_ids:
            row = cluster.hosts.row_of.get(host_id)
            if row is not None:
                mask[row] = False
        return mask

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:  # noqa: ARG002 - as in Filter
        return "The request excludes it."
