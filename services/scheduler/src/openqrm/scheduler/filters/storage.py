"""Hosts without enough room for the disks."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.columns import storage_of
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.words import number


class StorageFilter:
    """Refuses hosts whose disk storage is too full; one that reports nothing about it is accepted."""

    name = "storage"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if request.disk_mib <= 0:
            return None
        enough: Mask = cluster.hosts.disk_free >= request.disk_mib
        return enough

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        storage = storage_of(cluster.hosts.view(row))
        path = storage[0] if storage else "its storage"
        free = number(cluster.hosts.disk_free[row])
        return f"{free} MiB are free in {path}, the disks take {number(request.disk_mib)}."
