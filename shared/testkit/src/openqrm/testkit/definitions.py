"""Makes partition definitions for tests."""

from itertools import count
from typing import Any

from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import (
    BlankDisk,
    DiskBus,
    DiskDefinition,
    DiskFormat,
    NicDefinition,
    PartitionDefinition,
)

_numbers = count(1)


def nic_definition(mac: str, bridge: str, **changes: Any) -> NicDefinition:
    """A NIC."""
    return NicDefinition(
        **{"id": new_id(), "network_id": new_id(), "bridge": bridge, "mac": mac, "model": "virtio"} | changes
    )


def disk_definition(target: str = "vda", size_mib: int = 64, **changes: Any) -> DiskDefinition:
    """An empty disk, made on the host's storage."""
    source = BlankDisk(size_mib=size_mib, format=DiskFormat.QCOW2)
    return DiskDefinition(
        **{"id": new_id(), "target": target, "source": source, "bus": DiskBus.VIRTIO, "read_only": False} | changes
    )


def partition_definition(technology: str, **changes: Any) -> PartitionDefinition:
    """A small partition with a name of its own, at epoch 1, without disks and NICs."""
    fields: dict[str, Any] = {
        "id": new_id(),
        "name": f"test {next(_numbers)}",
        "technology": technology,
        "epoch": 1,
        "memory_mib": 128,
        "memory_max_mib": 256,
        "vcpus": 1,
        "vcpus_max": 2,
    }
    return PartitionDefinition(**fields | changes)
