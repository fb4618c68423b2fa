"""Hosts without the tags that the partition needs."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.words import listing, plural


class TagsFilter:
    """Refuses hosts that lack any of the tags asked for."""

    name = "tags"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if not request.host_tags:
            return None
        hosts = cluster.hosts
        every: Mask = np.logical_and.reduce([hosts.tags.column(tag, hosts.length) for tag in request.host_tags])
        return every

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        missing = set(request.host_tags) - cluster.hosts.tags.words(row)
        return f"It lacks the {plural('tag', len(missing))} {listing(missing)}."
