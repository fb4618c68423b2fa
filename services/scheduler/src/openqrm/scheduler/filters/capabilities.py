"""Hosts whose technology cannot do what the partition needs."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.words import listing


class CapabilitiesFilter:
    """Refuses hosts whose driver does not declare every capability asked for."""

    name = "capabilities"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        return cluster.capable(request.capabilities) if request.capabilities else None

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        technology = cluster.hosts.view(row).technology
        manifest = cluster.manifests.get(technology)
        if manifest is None:
            return f"What {technology} can do is not known: no executor for it has announced itself."
        missing = request.capabilities - manifest.capabilities
        reasons = sorted({manifest.unsupported[c].rstrip(".") for c in missing if c in manifest.unsupported})
        why = f": {'; '.join(reasons)}" if reasons else ""
        return f"{manifest.title} does not have {listing(missing)}{why}."
