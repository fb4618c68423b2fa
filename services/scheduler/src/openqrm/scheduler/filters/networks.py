"""Hosts that do not reach the partition's networks."""

import numpy as np

from openqrm.contracts.placement import PlacementRequest
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster


class NetworksFilter:
    """Refuses hosts without the bridge of every network asked for; one whose bridges nobody knows is refused, too."""

    name = "networks"

    def passes(self, cluster: Cluster, request: PlacementRequest) -> Mask | None:
        if not request.network_ids:
            return None
        networks = [cluster.networks.get(network_id) for network_id in request.network_ids]
        known = [network for network in networks if network is not None]
        if len(known) < len(networks):
            return np.zeros(cluster.hosts.length, dtype=np.bool_)
        every: Mask = np.logical_and.reduce([cluster.reach(network) for network in known])
        return every

    def reason(self, cluster: Cluster, row: int, request: PlacementRequest) -> str:
        hosts = cluster.hosts
        for network_id in request.network_ids:
            network = cluster.networks.get(network_id)
            if network is None:
                return f"The network {network_id} is not known."
            if not hosts.bridges_known[row]:
                return f"Whether it reaches the network {network.name} is not known: it has reported no bridges."
            bridge = network.host_bridges.get(hosts.view(row).id, network.bridge)
            if bridge not in hosts.bridges.words(row):
                return f"It has no bridge {bridge}, which carries the network {network.name}."
        raise LookupError(f"row {row} reaches every network")
