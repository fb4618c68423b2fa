"""Partitions and what is seen of them, for tests without a database."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import (
    BlankDisk,
    CrashPolicy,
    DiskBus,
    DiskDefinition,
    Firmware,
    ObservedDisk,
    ObservedNic,
    ObservedPartition,
)
from openqrm.contracts.states import DesiredState, ObservedState, PartitionState
from openqrm.inventory.domain.partition import Network, Nic, Partition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOST = UUID(int=1)
NETWORK = UUID(int=2)
NETWORKS = {NETWORK: Network(NETWORK, "default", "br0", {}, None)}


def partition(**changes: Any) -> Partition:
    """One that runs, with a disk and a NIC."""
    disk = DiskDefinition(id=new_id(), target="vda", source=BlankDisk(size_mib=64), bus=DiskBus.VIRTIO, read_only=False)
    fields: dict[str, Any] = {
        "id": new_id(),
        "revision": 1,
        "name": "web 1",
        "technology": "fake",
        "state": PartitionState.RUNNING,
        "desired_state": DesiredState.RUNNING,
        "epoch": 1,
        "host_id": HOST,
        "host_name": "h1",
        "target_host_id": None,
        "memory_mib": 256,
        "memory_max_mib": 512,
        "vcpus": 1,
        "vcpus_max": 2,
        "cpu_pins": {},
        "disks": [disk],
        "nics": [Nic(new_id(), NETWORK, "02:fa:4e:00:00:01", "virtio")],
        "firmware": Firmware.BIOS,
        "vnc": True,
        "tags": (),
        "host_tags": (),
        "on_crash": CrashPolicy.RESTART,
        "operation_id": None,
        "drift": (),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Partition(**fields | changes)


def observed_of(ours: Partition, **changes: Any) -> ObservedPartition:
    """What an executor sees of it when all is well."""
    fields: dict[str, Any] = {
        "id": ours.id,
        "name": ours.name,
        "state": ObservedState.RUNNING,
        "epoch": ours.epoch,
        "memory_mib": ours.memory_mib,
        "memory_max_mib": ours.memory_max_mib,
        "vcpus": ours.vcpus,
        "vcpus_max": ours.vcpus_max,
        "nics": tuple(ObservedNic(mac=nic.mac, bridge="br0") for nic in ours.nics),
        "disks": tuple(ObservedDisk(target=disk.target, source="/x") for disk in ours.disks),
    }
    return ObservedPartition(**fields | changes)
