"""How a partition on its host differs from what it should be."""

from uuid import UUID

from openqrm.contracts.partition import Drift, ObservedPartition
from openqrm.contracts.states import ObservedState
from openqrm.inventory.domain.partition import Network, Partition


def find_drift(partition: Partition, observed: ObservedPartition, networks: dict[UUID, Network]) -> tuple[Drift, ...]:
    """The differences in memory, vCPUs, NICs and disks; what was not observed does not count."""
    drift = []
    running = observed.state in (ObservedState.RUNNING, ObservedState.PAUSED)
    pairs = [("memory_mib", partition.memory_mib, observed.memory_mib), ("vcpus", partition.vcpus, observed.vcpus)]
    if not running:
        # The ceilings of a running guest are those of its last start; they agree again after the next one.
        pairs += [
            ("memory_max_mib", partition.memory_max_mib, observed.memory_max_mib),
            ("vcpus_max", partition.vcpus_max, observed.vcpus_max),
        ]
    for field, wanted, found in pairs:
        if found is not None and found != wanted:
            drift.append(Drift(field=field, wanted=str(wanted), found=str(found)))
    nics = {nic.mac: networks[nic.network_id].bridge_on(partition.host_id) for nic in partition.nics}
    seen = {nic.mac: nic.bridge for nic in observed.nics}
    for mac in sorted(nics.keys() | seen.keys()):
        if mac not in seen:
            drift.append(Drift(field=f"nics.{mac}", wanted=nics[mac], found="none"))
        elif mac not in nics:
            drift.append(Drift(field=f"nics.{mac}", wanted="none", found=seen[mac] or "present"))
        elif seen[mac] is not None and seen[mac] != nics[mac]:
            drift.append(Drift(field=f"nics.{mac}", wanted=nics[mac], found=str(seen[mac])))
    wanted_disks = {disk.target for disk in partition.disks}
    seen_disks = {disk.target for disk in observed.disks}
    drift += [Drift(field=f"disks.{t}", wanted="present", found="none") for t in sorted(wanted_disks - seen_disks)]
    drift += [Drift(field=f"disks.{t}", wanted="none", found="present") for t in sorted(seen_disks - wanted_disks)]
    return tuple(drift)
