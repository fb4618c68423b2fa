"""Brings what a host has of a partition to its definition; everything is checked before anything is changed."""

from openqrm.contracts.errors import DriverError, InvalidError, StaleEpochError, WrongStateError
from openqrm.contracts.partition import DiskDefinition, NicDefinition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.state import FakePartition, HostContent, disk_of, nic_of, size_of


def check_epoch(host: FakeHost, partition: PartitionDefinition) -> None:
    """Raise StaleEpochError when the host has a newer epoch: the host is the last to notice."""
    found = host.get(partition.id)
    if found and found.epoch is not None and found.epoch > partition.epoch:
        raise StaleEpochError(
            f"Fake host {host.name} has {partition.name!r} with epoch {found.epoch}, newer than {partition.epoch}. "
            "Nothing was done."
        )


def check_fits(host: FakeHost, partition: PartitionDefinition, nics: tuple[NicDefinition, ...]) -> None:
    """Raise DriverError when the host could never carry it."""
    if partition.memory_mib > host.plan.memory_mib:
        raise DriverError(
            f"{partition.name!r} needs {partition.memory_mib} MiB, host {host.name} has {host.plan.memory_mib} MiB. "
            "Make it smaller or choose another host."
        )
    for nic in nics:
        check_bridge(host, nic)


def check_bridge(host: FakeHost, nic: NicDefinition) -> None:
    """Raise DriverError when the host does not have the NIC's bridge."""
    if nic.bridge not in host.bridges:
        raise DriverError(
            f"Host {host.name} has no bridge {nic.bridge} (it has {', '.join(host.bridges) or 'none'}). "
            "Map the network to one of them."
        )


def check_pins(host: FakeHost, partition: PartitionDefinition) -> None:
    """Raise InvalidError when a vCPU is pinned to a CPU that the host does not have."""
    wrong = sorted({cpu for cpus in partition.cpu_pins.values() for cpu in cpus if cpu >= host.plan.cpus})
    if wrong:
        raise InvalidError(f"Host {host.name} has CPUs 0 to {host.plan.cpus - 1}, not {wrong}. Choose among them.")


def make_volumes(host: FakeHost, content: HostContent, sizes: dict[str, int]) -> None:
    """Make those volumes (path: MiB) that are not there. Raises DriverError when the host has no room for them."""
    missing = {path: size for path, size in sizes.items() if path not in content.volumes}
    free = host.plan.storage_mib - sum(content.volumes.values())
    if sum(missing.values()) > free:
        raise DriverError(
            f"Host {host.name} has {free} MiB free, {sum(missing.values())} MiB are needed. Free some or move it."
        )
    content.volumes |= missing


def define(
    host: FakeHost,
    content: HostContent,
    partition: PartitionDefinition,
    nics: tuple[NicDefinition, ...],
    storage_path: str,
    with_volumes: bool,
) -> FakePartition:
    """Define it, or bring what is defined to the definition; what runs keeps running as it was started.

    Without `with_volumes`, raises DriverError when a volume that was made for it is missing.
    """
    disks = [disk_of(disk, partition.id, storage_path) for disk in partition.disks]
    own = {disk.source: size for disk, size in disks if size is not None}
    if with_volumes:
        make_volumes(host, content, own)
    elif missing := sorted(own.keys() - content.volumes.keys()):
        raise DriverError(f"{missing[0]} is missing on host {host.name}. Restore it, or delete the partition.")
    found = content.partitions.get(partition.id)
    if found is None or found.state is ObservedState.INCOMING:
        found = FakePartition(id=partition.id, name=partition.name, size=size_of(partition))
    found.name = partition.name
    found.epoch = partition.epoch
    found.size = size_of(partition)
    found.cpu_pins = dict(partition.cpu_pins)
    found.nics = [nic_of(nic) for nic in nics]
    found.disks = [disk for disk, _ in disks]
    content.partitions[partition.id] = found
    return found


def begin_to_run(found: FakePartition) -> None:
    """Switch it on."""
    found.state = ObservedState.RUNNING
    found.live = found.size.model_copy()
    found.starts += 1


def resize(found: FakePartition, partition: PartitionDefinition) -> None:
    """Bring its size to the definition. Raises WrongStateError when it runs and the ceiling is too low."""
    wanted = size_of(partition)
    if found.live:
        if wanted.memory_mib > found.live.memory_max_mib or wanted.vcpus > found.live.vcpus_max:
            raise WrongStateError(
                f"{partition.name!r} runs with at most {found.live.memory_max_mib} MiB and {found.live.vcpus_max} "
                "vCPUs. Stop it to go beyond."
            )
        found.live.memory_mib, found.live.vcpus = wanted.memory_mib, wanted.vcpus
    found.size = wanted


def attach_disk(
    host: FakeHost, content: HostContent, found: FakePartition, disk: DiskDefinition, storage_path: str
) -> None:
    """Add a disk unless its target is taken."""
    if any(other.target == disk.target for other in found.disks):
        return
    added, size = disk_of(disk, found.id, storage_path)
    if size is not None:
        make_volumes(host, content, {added.source: size})
    found.disks.append(added)
