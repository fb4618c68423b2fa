"""Hosts that do not share their storage with the one that the disks stay on."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import NOT_SHARED
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class SharedStorageFilter:
    """Refuses hosts that do not see the disks of another host. A host always sees its own."""

    name = "shared-storage"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if request.needs_shared_storage_with is None:
            return None
        hosts = cluster.hosts
        other = hosts.row_of.get(request.needs_shared_storage_with)
        if other is None:
            return np.zeros(hosts.length, dtype=np.bool_)
        group = hosts.storage_group[other]
        same: Mask = (hosts.storage_group == group) & bool(group != NOT_SHARED)
        same[other] = True
        return same

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        hosts = cluster.hosts
        other = hosts.row_of.get(request.needs_shared_storage_with) if request.needs_shared_storage_with else None
        if other is None:
            return f"The host {request.needs_shared_storage_with}, whose storage it must share, is not known."
        name = hosts.view(other).name
        if hosts.storage_group[other] == NOT_SHARED:
            return f"The disks lie on {name}, which shares its storage with no other host."
        if hosts.storage_group[row] == NOT_SHARED:
            return f"Its storage is not shared; the disks lie on the shared storage of {name}."
        mine, theirs = hosts.view(row).connection.storage_path, hosts.view(other).connection.storage_path
        return f"It shares {mine}; the disks lie on the shared storage {theirs} of {name}."
