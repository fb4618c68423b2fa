"""Which disks of a partition travel, and how. Pure."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from openqrm.contracts.errors import UnsupportedError
from openqrm.contracts.host import HostConnection
from openqrm.contracts.partition import BlockDisk, DiskDefinition, FileDisk, PartitionDefinition
from openqrm.executor_qemu.addresses import parse_address
from openqrm.executor_qemu.domain_reading import disk_source
from openqrm.executor_qemu.domain_xml import is_iso, is_made, volume_path
from openqrm.executor_qemu.domains import called


@dataclass(frozen=True)
class Moves:
    """What happens to each disk."""

    copied: tuple[DiskDefinition, ...]
    """Disks whose volumes are made on the target and filled by the migration."""
    isos: tuple[DiskDefinition, ...]
    shared: bool
    """Whether some disk is reached by both hosts under one path."""
    paths: dict[str, str]
    """Path on the source to path on the target, of the copied disks."""


def storage_is_shared(source: HostConnection, target: HostConnection) -> bool:
    """Whether both hosts declare their storage as shared, under one path."""
    same = source.storage_path.rstrip("/") == target.storage_path.rstrip("/")
    return same and source.shared_storage and target.shared_storage


def plan_moves(
    partition: PartitionDefinition, domain: ET.Element, source: HostConnection, target: HostConnection
) -> Moves:
    """Look at every disk that the domain has. Raises UnsupportedError for one that the target cannot have."""
    together = storage_is_shared(source, target)
    by_target = {disk.target: disk for disk in partition.disks}
    copied: list[DiskDefinition] = []
    isos: list[DiskDefinition] = []
    shared = False
    paths: dict[str, str] = {}
    for element in domain.findall("devices/disk"):
        device = element.find("target")
        name = "" if device is None else device.get("dev", "")
        where, definition = disk_source(element), by_target.get(name)
        if element.get("type") == "network" or not where:
            continue
        if definition is not None and is_iso(definition):
            isos.append(definition)
        elif definition is not None and is_made(definition):
            if together:
                shared = True
            else:
                copied.append(definition)
                paths[where] = volume_path(partition, definition, target.storage_path)
        elif _is_shared(definition) or (together and where.startswith(source.storage_path.rstrip("/") + "/")):
            shared = True
        else:
            raise UnsupportedError(
                f"Disk {name} of {called(partition)} is {where} on its host, which is not declared as shared, and it "
                "was not made by openQRM: it cannot be moved. Declare it as shared, or detach it first."
            )
    return Moves(tuple(copied), tuple(isos), shared, paths)


def _is_shared(disk: DiskDefinition | None) -> bool:
    return disk is not None and isinstance(disk.source, FileDisk | BlockDisk) and disk.source.shared


def migration_uri(target: HostConnection) -> str | None:
    """Where the source's QEMU connects to; None: libvirt asks the target for its name."""
    host = target.migration_address or parse_address(target).hostname
    if not host:
        return None
    return f"tcp://[{host}]" if ":" in host else f"tcp://{host}"


def _number(statistics: dict[str, object], name: str) -> int:
    value = statistics.get(name, 0)
    return value if isinstance(value, int) else 0


def moved_bytes(statistics: dict[str, object]) -> int:
    """How much a migration has sent so far, from libvirt's job statistics."""
    return _number(statistics, "memory_processed") + _number(statistics, "disk_processed")


def percent_of(statistics: dict[str, object]) -> int | None:
    """How far a migration is, from libvirt's job statistics; None when it has not begun."""
    total = _number(statistics, "memory_total") + _number(statistics, "disk_total")
    left = _number(statistics, "memory_remaining") + _number(statistics, "disk_remaining")
    if total <= 0:
        return None
    return max(0, min(99, 100 - 100 * left // total))
