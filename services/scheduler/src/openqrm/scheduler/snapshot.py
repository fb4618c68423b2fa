"""The data centre as one placement sees it: the hosts in columns, the networks, what each technology can do."""

from collections import OrderedDict
from uuid import UUID

import numpy as np

from openqrm.contracts.network import NetworkView
from openqrm.contracts.technology import Capability, Manifest
from openqrm.scheduler.columns import HostColumns
from openqrm.scheduler.membership import Mask

MAX_REACHES = 256
"""Networks whose reach is kept ready."""


class Cluster:
    """What filters and weighers look at. They only read."""

    def __init__(self) -> None:
        self.hosts = HostColumns()
        self.networks: dict[UUID, NetworkView] = {}
        self.manifests: dict[str, Manifest] = {}
        self._reaches: OrderedDict[UUID, tuple[int, int, Mask]] = OrderedDict()

    def reach(self, network: NetworkView) -> Mask:
        """Which hosts have the bridge that carries a network on them. The caller must not write to it."""
        hosts = self.hosts
        known = self._reaches.get(network.id)
        if known is None or known[:2] != (network.revision, hosts.bridges_revision) or len(known[2]) != hosts.length:
            mask = hosts.bridges.column(network.bridge, hosts.length)
            if network.host_bridges:
                mask = mask.copy()
                for host_id, bridge in network.host_bridges.items():
                    row = hosts.row_of.get(host_id)
                    if row is not None:
                        mask[row] = bridge in hosts.bridges.words(row)
            known = self._reaches[network.id] = (network.revision, hosts.bridges_revision, mask)
            if len(self._reaches) > MAX_REACHES:
                self._reaches.popitem(last=False)
        self._reaches.move_to_end(network.id)
        return known[2]

    def capable(self, capabilities: frozenset[Capability]) -> Mask:
        """Which hosts' technologies have all the capabilities."""
        able = [
            (manifest := self.manifests.get(technology)) is not None and capabilities <= manifest.capabilities
            for technology in self.hosts.technologies
        ]
        return np.array([*able, False], dtype=np.bool_)[self.hosts.technology]
