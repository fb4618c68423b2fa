"""Definitions that the tests share."""

from typing import Any
from uuid import UUID

from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import (
    BlankDisk,
    DiskBus,
    DiskDefinition,
    ImageContent,
    ImageDisk,
    NicDefinition,
    PartitionDefinition,
)

PARTITION_ID = UUID("01a20500-0000-7000-8000-0000abcd1234")
DISK_ID = UUID("01a20500-0000-7000-8000-000000000001")
NIC_ID = UUID("01a20500-0000-7000-8000-000000000002")
MAC = "52:54:00:77:01:10"


def image(image_format: ImageFormat = ImageFormat.QCOW2, **changes: Any) -> ImageContent:
    fields: dict[str, Any] = {
        "image_id": UUID("01a20500-0000-7000-8000-000000000003"),
        "format": image_format,
        "size_bytes": 4096,
        "virtual_size_mib": 64,
        "sha256": "ab" * 32,
        "location": "file:///images/demo",
    }
    return ImageContent(**{**fields, **changes})


def disk(target: str = "vda", source: Any = None, **changes: Any) -> DiskDefinition:
    fields: dict[str, Any] = {
        "id": DISK_ID,
        "target": target,
        "source": source or BlankDisk(size_mib=32),
        "bus": DiskBus.VIRTIO,
        "read_only": False,
    }
    return DiskDefinition(**{**fields, **changes})


def image_disk(target: str = "vda", **changes: Any) -> DiskDefinition:
    return disk(target, ImageDisk(image="demo"), **{"image": image(), **changes})


def iso_disk(target: str = "vdb", **changes: Any) -> DiskDefinition:
    return disk(target, ImageDisk(image="iso"), **{"image": image(ImageFormat.ISO), **changes})


def nic(mac: str = MAC, bridge: str = "br0", vlan: int | None = None) -> NicDefinition:
    return NicDefinition(id=NIC_ID, network_id=NIC_ID, bridge=bridge, vlan=vlan, mac=mac, model="virtio")


def partition(**changes: Any) -> PartitionDefinition:
    fields: dict[str, Any] = {
        "id": PARTITION_ID,
        "name": "web 1",
        "technology": "qemu",
        "epoch": 3,
        "memory_mib": 128,
        "memory_max_mib": 256,
        "vcpus": 1,
        "vcpus_max": 4,
    }
    return PartitionDefinition(**{**fields, **changes})
