"""Hosts that take no partitions now."""

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class StateFilter:
    """Refuses every host that is not ready."""

    name = "state"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:  # noqa: ARG002 - as in Filter
        return cluster.hosts.ready

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:  # noqa: ARG002 - as in Filter
        view = cluster.hosts.view(row)
        why = f": {view.state_reason.rstrip('.')}" if view.state_reason else ""
        return f"It is {view.state}, not ready{why}."
