"""A partition as inventory works on it, and what it looks like to others."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import (
    BlockDisk,
    CrashPolicy,
    DiskBus,
    DiskDefinition,
    DiskView,
    Drift,
    FileDisk,
    Firmware,
    ImageDisk,
    NetworkDisk,
    NicDefinition,
    NicView,
    ObservedPartition,
    PartitionDefinition,
    PartitionView,
)
from openqrm.contracts.states import DesiredState, PartitionState

_PREFIX = {DiskBus.VIRTIO: "vd", DiskBus.SCSI: "sd", DiskBus.SATA: "sd", DiskBus.IDE: "hd"}


@dataclass(frozen=True)
class Nic:
    """A network interface; the bridge depends on the host and is looked up when it is needed."""

    id: UUID
    network_id: UUID
    mac: str
    model: str


@dataclass(frozen=True)
class Network:
    """What a partition needs to know about a network."""

    id: UUID
    name: str
    bridge: str
    host_bridges: dict[UUID, str]
    vlan: int | None

    def bridge_on(self, host_id: UUID | None) -> str:
        """The bridge that carries the network on a host."""
        return self.host_bridges.get(host_id, self.bridge) if host_id else self.bridge


class Sighting(BaseModel):
    """What an executor saw of a partition on one host."""

    model_config = ConfigDict(frozen=True)

    observed: ObservedPartition | None
    reason: str
    at: datetime


@dataclass
class Partition:
    """The mutable aggregate: read in a transaction, changed, and saved with a raised revision."""

    id: UUID
    revision: int
    name: str
    technology: str
    state: PartitionState
    desired_state: DesiredState
    epoch: int
    host_id: UUID | None
    host_name: str | None
    target_host_id: UUID | None
    memory_mib: int
    memory_max_mib: int
    vcpus: int
    vcpus_max: int
    cpu_pins: dict[int, tuple[int, ...]]
    disks: list[DiskDefinition]
    nics: list[Nic]
    firmware: Firmware
    vnc: bool
    tags: tuple[str, ...]
    host_tags: tuple[str, ...]
    on_crash: CrashPolicy
    operation_id: UUID | None
    drift: tuple[Drift, ...]
    created_at: datetime
    updated_at: datetime
    crashes: list[str] = field(default_factory=list)
    seen_at: datetime | None = None
    """When its executor last reported it; older observations are ignored."""
    sightings: dict[UUID, Sighting] = field(default_factory=dict)
    """By host: what was seen of it while that could not be judged: an operation is at work on it, or its migration
    broke off and it is not known which of two hosts has it."""
    has_queue: bool = True
    """Whether operations waited for their turn on it when it was read; nobody can join them while it is locked."""
    saved_revision: int = 0
    """The revision in the database; raised in memory with every event."""

    def next_target(self, bus: DiskBus) -> str:
        """The next free device name on a bus, such as vdb."""
        prefix = _PREFIX[bus]
        used = {disk.target for disk in self.disks}
        return next(name for i in range(702) if (name := prefix + _letters(i)) not in used)

    def definition(self, networks: dict[UUID, Network], host_id: UUID | None = None) -> PartitionDefinition:
        """The partition as an executor should have it, on its host or on another one."""
        place = host_id or self.host_id
        return PartitionDefinition(
            id=self.id,
            name=self.name,
            technology=self.technology,
            epoch=self.epoch,
            memory_mib=self.memory_mib,
            memory_max_mib=self.memory_max_mib,
            vcpus=self.vcpus,
            vcpus_max=self.vcpus_max,
            cpu_pins=self.cpu_pins,
            disks=tuple(self.disks),
            nics=self.nic_definitions(networks, place),
            firmware=self.firmware,
            vnc=self.vnc,
        )

    def nic_definitions(self, networks: dict[UUID, Network], host_id: UUID | None) -> tuple[NicDefinition, ...]:
        """The NICs with the bridges of a host."""
        return tuple(nic_definition(nic, networks[nic.network_id], host_id) for nic in self.nics)

    def disk_mib(self) -> int:
        """MiB that its own disks can take from the storage of its host."""
        return sum(volume_mib(disk) for disk in self.disks)

    @property
    def leaves_disks_behind(self) -> bool:
        """Whether a move takes hosts that share their storage: it has disks that lie there and were not made by us."""
        return any(isinstance(d.source, FileDisk | BlockDisk) and not d.source.shared for d in self.disks)

    def view(self, networks: dict[UUID, Network]) -> PartitionView:
        """The partition as others see it; secrets left out."""
        return PartitionView(
            id=self.id,
            revision=self.revision,
            name=self.name,
            technology=self.technology,
            state=self.state,
            desired_state=self.desired_state,
            epoch=self.epoch,
            host_id=self.host_id,
            host_name=self.host_name,
            target_host_id=self.target_host_id,
            memory_mib=self.memory_mib,
            memory_max_mib=self.memory_max_mib,
            vcpus=self.vcpus,
            vcpus_max=self.vcpus_max,
            cpu_pins=self.cpu_pins,
            disks=tuple(disk_view(disk) for disk in self.disks),
            nics=tuple(
                NicView(
                    id=nic.id,
                    network_id=nic.network_id,
                    # The network of a deleted partition may be gone.
                    network_name=networks[nic.network_id].name if nic.network_id in networks else "(deleted)",
                    mac=nic.mac,
                    model=nic.model,
                )
                for nic in self.nics
            ),
            firmware=self.firmware,
            vnc=self.vnc,
            tags=self.tags,
            host_tags=self.host_tags,
            on_crash=self.on_crash,
            operation_id=self.operation_id,
            drift=self.drift,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


def _letters(index: int) -> str:
    first, second = divmod(index, 26)
    return (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + second)


def nic_definition(nic: Nic, network: Network, host_id: UUID | None) -> NicDefinition:
    """A NIC with the bridge of a host."""
    return NicDefinition(
        id=nic.id,
        network_id=nic.network_id,
        bridge=network.bridge_on(host_id),
        vlan=network.vlan,
        mac=nic.mac,
        model=nic.model,
    )


def disk_view(disk: DiskDefinition) -> DiskView:
    """A disk as others see it: without the password of its storage."""
    source = disk.source
    if isinstance(source, NetworkDisk) and source.password is not None:
        source = source.model_copy(update={"password": None})
    return DiskView(id=disk.id, target=disk.target, source=source, bus=disk.bus, read_only=disk.read_only)


def volume_mib(disk: DiskDefinition) -> int:
    """MiB that a disk made by us can take; 0 for one that lies somewhere already."""
    if disk.source.kind == "blank":
        return disk.source.size_mib
    if isinstance(disk.source, ImageDisk):
        own = disk.image.virtual_size_mib if disk.image else 0
        return disk.source.size_mib or own
    return 0


def new_nic(network_id: UUID, mac: str, model: str) -> Nic:
    """A NIC that did not exist before."""
    return Nic(new_id(), network_id, mac, model)
