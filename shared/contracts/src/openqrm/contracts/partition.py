"""Partitions: virtual machines and containers. Their shape, the commands on them and the facts about them."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import MacAddress, Name, Ref, Tag, Technology, new_id
from openqrm.contracts.image import ImageFormat
from openqrm.contracts.message import EXECUTOR, INVENTORY, Command, Event, Query
from openqrm.contracts.paging import Page, Paging
from openqrm.contracts.states import DesiredState, ObservedState, PartitionState

MIN_MEMORY_MIB = 16
MAX_MEMORY_MIB = 16 * 1024 * 1024
"""16 TiB, above the largest guest that today's hypervisors support."""
MAX_VCPUS = 1024
MAX_DISK_MIB = 64 * 1024 * 1024
"""64 TiB."""

MemoryMiB = Annotated[int, Field(ge=MIN_MEMORY_MIB, le=MAX_MEMORY_MIB, description="MiB", examples=[512])]
Vcpus = Annotated[int, Field(ge=1, le=MAX_VCPUS, examples=[2])]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# ------------------------------------------------------------------------------------------------ disks and NICs


class DiskBus(StrEnum):
    """The controller that the guest sees."""

    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"
    IDE = "ide"


class DiskFormat(StrEnum):
    """How a disk's bytes are laid out where they lie."""

    QCOW2 = "qcow2"
    RAW = "raw"


class DiskProtocol(StrEnum):
    """Network block protocols that a hypervisor speaks by itself."""

    ISCSI = "iscsi"
    NFS = "nfs"
    NBD = "nbd"


class ImageDisk(_Part):
    """A copy of an image, made on the host's storage and deleted with the partition; an ISO becomes a CD-ROM."""

    kind: Literal["image"] = "image"
    image: Ref
    size_mib: Annotated[int, Field(ge=1, le=MAX_DISK_MIB)] | None = Field(
        default=None, description="MiB; at least the image's own size, which it is when left out"
    )
    format: DiskFormat = DiskFormat.QCOW2


class BlankDisk(_Part):
    """An empty disk, made on the host's storage and deleted with the partition."""

    kind: Literal["blank"] = "blank"
    size_mib: int = Field(ge=1, le=MAX_DISK_MIB, description="MiB")
    format: DiskFormat = DiskFormat.QCOW2


class FileDisk(_Part):
    """A file that lies on the host or on storage shared by hosts; never deleted by us."""

    kind: Literal["file"] = "file"
    path: str = Field(pattern=r"^/[^\x00\n]*$", max_length=1000)
    format: DiskFormat = DiskFormat.RAW
    shared: bool = Field(default=False, description="Whether every host sees this file under this path")


class BlockDisk(_Part):
    """A block device of the host, such as a logical volume or a LUN; never deleted by us."""

    kind: Literal["block"] = "block"
    device: str = Field(pattern=r"^/dev/[^\x00\n]+$", max_length=1000)
    shared: bool = Field(default=False, description="Whether every host sees this device under this path")


class NetworkDisk(_Part):
    """A volume that the hypervisor itself reaches over the network; the same from every host."""

    kind: Literal["network"] = "network"
    protocol: DiskProtocol
    server: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,255}$", description="Name or address of the storage server")
    port: int | None = Field(default=None, ge=1, le=65535)
    volume: str = Field(
        max_length=500,
        description="iSCSI: IQN/LUN; NFS: path of the file; NBD: export",
        examples=["iqn.2026-01.a:t1/1"],
    )
    format: DiskFormat = DiskFormat.RAW
    username: str | None = Field(default=None, max_length=200, description="iSCSI: CHAP user")
    password: str | None = Field(default=None, max_length=200, repr=False, description="iSCSI: CHAP secret")


DiskSource = Annotated[ImageDisk | BlankDisk | FileDisk | BlockDisk | NetworkDisk, Field(discriminator="kind")]


class DiskSpec(_Part):
    """A disk as it is asked for."""

    source: DiskSource
    bus: DiskBus = DiskBus.VIRTIO
    read_only: bool = False


class NicSpec(_Part):
    """A network interface as it is asked for."""

    network: Ref
    mac: MacAddress | None = Field(default=None, description="Allocated from the technology's range when left out")
    model: str = Field(default="virtio", pattern=r"^[a-z0-9-]{1,32}$")


class ImageContent(_Part):
    """Where an executor gets an image's bytes from, and how it knows them."""

    image_id: UUID
    format: ImageFormat
    size_bytes: int
    virtual_size_mib: int
    sha256: str
    location: str


class DiskDefinition(_Part):
    """A disk as the executor builds it: everything resolved."""

    id: UUID
    target: str = Field(description="Device name and order in the guest, such as vda")
    source: DiskSource
    image: ImageContent | None = None
    bus: DiskBus
    read_only: bool


class NicDefinition(_Part):
    """A network interface as the executor builds it."""

    id: UUID
    network_id: UUID
    bridge: str
    vlan: int | None = None
    mac: MacAddress
    model: str


class CrashPolicy(StrEnum):
    """What is done when a partition ends by itself."""

    RESTART = "restart"
    STAY = "stay"


class Firmware(StrEnum):
    """What boots the guest."""

    BIOS = "bios"
    UEFI = "uefi"


class PartitionDefinition(_Part):
    """A partition as it should be on its host: carried whole by every routed command, so that each is idempotent."""

    id: UUID
    name: Name
    technology: Technology
    epoch: int = Field(ge=1)
    memory_mib: MemoryMiB
    memory_max_mib: MemoryMiB = Field(description="MiB; the ceiling for changes while it runs")
    vcpus: Vcpus
    vcpus_max: Vcpus = Field(description="The ceiling for changes while it runs")
    cpu_pins: dict[int, tuple[int, ...]] = Field(
        default_factory=dict, description="vCPU number to host CPU numbers; a vCPU left out runs anywhere"
    )
    disks: tuple[DiskDefinition, ...] = ()
    nics: tuple[NicDefinition, ...] = ()
    firmware: Firmware = Firmware.BIOS
    vnc: bool = True


# ------------------------------------------------------------------------------------------------ views


class DiskView(BaseModel):
    """A disk of a partition; secrets left out."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    target: str
    source: DiskSource
    bus: DiskBus
    read_only: bool


class NicView(BaseModel):
    """A network interface of a partition."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    network_id: UUID
    network_name: str
    mac: MacAddress
    model: str


class Drift(BaseModel):
    """One way in which the partition on the host differs from what it should be."""

    model_config = ConfigDict(frozen=True)

    field: str
    wanted: str
    found: str


class PartitionView(BaseModel):
    """A partition as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int = Field(description="Raised by one with every event about it; the ETag of the API")
    name: Name
    technology: Technology
    state: PartitionState
    desired_state: DesiredState
    epoch: int
    host_id: UUID | None
    host_name: str | None
    target_host_id: UUID | None = Field(description="Where it is being moved to")
    memory_mib: int
    memory_max_mib: int
    vcpus: int
    vcpus_max: int
    cpu_pins: dict[int, tuple[int, ...]]
    disks: tuple[DiskView, ...]
    nics: tuple[NicView, ...]
    firmware: Firmware
    vnc: bool
    tags: tuple[Tag, ...]
    host_tags: tuple[Tag, ...]
    on_crash: CrashPolicy
    operation_id: UUID | None = Field(description="The operation that is at work on it")
    drift: tuple[Drift, ...]
    created_at: AwareDatetime
    updated_at: AwareDatetime


# ------------------------------------------------------------------------------------------------ commands


class CreatePartition(Command, subject="partition.create"):
    """Make a partition: choose a host (unless given), reserve capacity, make its disks, define it."""

    partition_id: UUID = Field(default_factory=new_id, description="Chosen by the caller, UUIDv7")
    name: Name
    technology: Technology | Literal["any"] = "any"
    host: Ref | None = Field(default=None, description="Left out, the scheduler chooses")
    memory_mib: MemoryMiB
    memory_max_mib: MemoryMiB | None = Field(default=None, description="MiB; memory_mib when left out")
    vcpus: Vcpus = 1
    vcpus_max: Vcpus | None = Field(default=None, description="vcpus when left out")
    disks: tuple[DiskSpec, ...] = Field(default=(), max_length=24)
    nics: tuple[NicSpec, ...] = Field(default=(), max_length=16)
    firmware: Firmware = Firmware.BIOS
    vnc: bool = True
    tags: tuple[Tag, ...] = Field(default=(), max_length=64)
    host_tags: tuple[Tag, ...] = Field(default=(), max_length=64, description="Tags that its host must have")
    on_crash: CrashPolicy = CrashPolicy.RESTART
    start: bool = Field(default=False, description="Start it as soon as it is made")
    wait_for_capacity: bool = Field(default=False, description="When no host fits: wait instead of failing")


class PartitionCommand(Command):
    """A command on one partition that exists."""

    partition: Ref
    expected_revision: int | None = Field(default=None, description="Refuse if the partition changed since")


class StartPartition(PartitionCommand, subject="partition.start"):
    """Start a stopped or crashed partition on the host where it is."""


class StopPartition(PartitionCommand, subject="partition.stop"):
    """Stop at once, as if the power cord were pulled."""


class ShutdownPartition(PartitionCommand, subject="partition.shutdown"):
    """Ask the guest to shut down, and wait for it."""

    timeout_seconds: int = Field(default=120, ge=1, le=3600)
    force: bool = Field(default=False, description="Stop it at once when it has not shut down in time")


class RebootPartition(PartitionCommand, subject="partition.reboot"):
    """Ask the guest to reboot, or reset it at once."""

    hard: bool = Field(default=False, description="Reset at once, without asking the guest")


class PausePartition(PartitionCommand, subject="partition.pause"):
    """Let its CPUs stand still; its memory stays."""


class UnpausePartition(PartitionCommand, subject="partition.unpause"):
    """Let a paused partition go on."""


class ResizePartition(PartitionCommand, subject="partition.resize"):
    """Change memory or vCPUs, while it runs up to the maxima, stopped to anything that fits the host."""

    memory_mib: MemoryMiB | None = None
    vcpus: Vcpus | None = None
    memory_max_mib: MemoryMiB | None = Field(default=None, description="Only while it is stopped")
    vcpus_max: Vcpus | None = Field(default=None, description="Only while it is stopped")


class PinPartition(PartitionCommand, subject="partition.pin"):
    """Say on which host CPUs each vCPU may run; an empty mapping frees them all."""

    cpu_pins: dict[int, tuple[int, ...]]


class MigratePartition(PartitionCommand, subject="partition.migrate"):
    """Move to another host, live (it runs on through the move) or regular (stopped meanwhile)."""

    host: Ref | None = Field(default=None, description="Left out, the scheduler chooses")
    live: bool = True
    bandwidth_mib_s: int | None = Field(default=None, ge=1, le=100_000, description="MiB per second at the most")
    wait_for_capacity: bool = False


class DeletePartition(PartitionCommand, subject="partition.delete"):
    """Remove a stopped partition, its own disks included; its addresses go into quarantine."""

    force: bool = Field(default=False, description="Stop it first if it runs")


class AttachNic(PartitionCommand, subject="partition.attach_nic"):
    """Add a network interface, while it runs or not."""

    nic: NicSpec


class DetachNic(PartitionCommand, subject="partition.detach_nic"):
    """Remove a network interface."""

    mac: MacAddress


class MapNic(PartitionCommand, subject="partition.map_nic"):
    """Plug a network interface into another network, keeping its address."""

    mac: MacAddress
    network: Ref


class AttachDisk(PartitionCommand, subject="partition.attach_disk"):
    """Add a disk, while it runs or not."""

    disk: DiskSpec


class DetachDisk(PartitionCommand, subject="partition.detach_disk"):
    """Remove a disk; one that was made for this partition is deleted unless it is to be kept."""

    target: str = Field(description="Its device name, such as vdb")
    keep: bool = Field(default=False, description="Leave the volume on the host's storage")


class ChangePartition(PartitionCommand, subject="partition.change"):
    """Change what needs no host: name, tags, crash policy; fields left out stay as they are."""

    name: Name | None = None
    tags: tuple[Tag, ...] | None = Field(default=None, max_length=64)
    host_tags: tuple[Tag, ...] | None = Field(default=None, max_length=64)
    on_crash: CrashPolicy | None = None


class AdoptPartition(Command, subject="partition.adopt"):
    """Take a stranger that an executor found on a host into the inventory, as it is."""

    host: Ref
    partition_id: UUID = Field(description="The id under which the stranger was seen on the host")
    name: Name | None = Field(default=None, description="Its name on the host when left out")
    on_crash: CrashPolicy = CrashPolicy.STAY


# ------------------------------------------------------------------------------------------------ observations


class ObservedNic(BaseModel):
    """A network interface as seen on the host."""

    model_config = ConfigDict(frozen=True)

    mac: MacAddress
    bridge: str | None = None
    model: str | None = None


class ObservedDisk(BaseModel):
    """A disk as seen on the host."""

    model_config = ConfigDict(frozen=True)

    target: str
    source: str
    bus: str | None = None


class ObservedPartition(BaseModel):
    """A partition as seen on its host."""

    model_config = ConfigDict(frozen=True)

    id: UUID = Field(description="The id that the technology knows it by; ours for partitions that we made")
    name: str
    state: ObservedState
    epoch: int | None = Field(description="The epoch written beside it; None for a stranger")
    memory_mib: int | None = None
    memory_max_mib: int | None = None
    vcpus: int | None = None
    vcpus_max: int | None = None
    nics: tuple[ObservedNic, ...] = ()
    disks: tuple[ObservedDisk, ...] = ()


class PartitionObserved(Event, subject="partition.observed", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """An executor saw one partition change by itself; None: it is gone from the host."""

    host_id: UUID
    partition_id: UUID
    observed: ObservedPartition | None
    reason: str = Field(default="", description="What the hypervisor gave as the cause, such as crashed")
    observed_at: AwareDatetime


# ------------------------------------------------------------------------------------------------ events


class PartitionEvent(Event):
    """Something about a partition; carries it whole, so that a consumer needs no question."""

    partition: PartitionView
    operation_id: UUID | None = None
    reason: str = ""


class PartitionCreated(PartitionEvent, subject="partition.created"):
    """It is defined on its host."""


class PartitionStarted(PartitionEvent, subject="partition.started"):
    """It runs."""


class PartitionStopped(PartitionEvent, subject="partition.stopped"):
    """It ended: stopped, shut down, or powered off by its guest."""


class PartitionRebooted(PartitionEvent, subject="partition.rebooted"):
    """It was rebooted."""


class PartitionPaused(PartitionEvent, subject="partition.paused"):
    """It stands still."""


class PartitionUnpaused(PartitionEvent, subject="partition.unpaused"):
    """It goes on."""


class PartitionResized(PartitionEvent, subject="partition.resized"):
    """Its memory or its vCPUs changed."""


class PartitionPinned(PartitionEvent, subject="partition.pinned"):
    """Its vCPUs were pinned or freed."""


class PartitionMigrated(PartitionEvent, subject="partition.migrated"):
    """It is on another host now, and only there."""


class PartitionDeleted(PartitionEvent, subject="partition.deleted"):
    """It is gone, and its own disks with it."""


class NicAttached(PartitionEvent, subject="partition.nic_attached"):
    """A network interface was added."""


class NicDetached(PartitionEvent, subject="partition.nic_detached"):
    """A network interface was removed."""


class NicMapped(PartitionEvent, subject="partition.nic_mapped"):
    """A network interface was plugged into another network."""


class DiskAttached(PartitionEvent, subject="partition.disk_attached"):
    """A disk was added."""


class DiskDetached(PartitionEvent, subject="partition.disk_detached"):
    """A disk was removed."""


class PartitionChanged(PartitionEvent, subject="partition.changed"):
    """Anything else about it changed, such as its state on the way, its name or its tags."""


class PartitionCrashed(PartitionEvent, subject="partition.crashed"):
    """It ended by itself; its crash policy says what follows."""


class PartitionVanished(PartitionEvent, subject="partition.vanished"):
    """Its host answers and does not have it."""


class PartitionDrifted(PartitionEvent, subject="partition.drifted"):
    """On its host it differs from what it should be; `drift` says how (empty: it agrees again)."""


class PartitionAdopted(PartitionEvent, subject="partition.adopted"):
    """A stranger became one of ours."""


class PartitionDiscovered(Event, subject="partition.discovered"):
    """A stranger was seen on a host; it can be adopted."""

    host_id: UUID
    host_name: str
    observed: ObservedPartition


class StrangerView(BaseModel):
    """A partition on a host that inventory did not make."""

    model_config = ConfigDict(frozen=True)

    host_id: UUID
    host_name: str
    observed: ObservedPartition
    first_seen_at: AwareDatetime


# ------------------------------------------------------------------------------------------------ queries


class PartitionSort(StrEnum):
    """What a list of partitions can be sorted by."""

    NAME = "name"
    CREATED_AT = "created_at"
    STATE = "state"
    MEMORY = "memory_mib"
    VCPUS = "vcpus"


class GetPartition(Query[PartitionView], subject="partition.get"):
    """One partition by id or name."""

    partition: Ref


class ListPartitions(Query[Page[PartitionView]], subject="partition.list"):
    """Partitions that pass every given filter. Deleted ones only when asked for by state."""

    state: PartitionState | None = None
    technology: Technology | None = None
    host: Ref | None = None
    tag: Tag | None = None
    name_contains: str | None = Field(default=None, min_length=1, max_length=200, description="Case does not matter")
    sort: PartitionSort = PartitionSort.NAME
    paging: Paging = Paging()


class ListStrangers(Query[Page[StrangerView]], subject="partition.list_strangers"):
    """Partitions seen on hosts that inventory did not make."""

    host: Ref | None = None
    paging: Paging = Paging()


class Placement(BaseModel):
    """Where a partition is placed, for an executor that is about to start it."""

    model_config = ConfigDict(frozen=True)

    partition_id: UUID
    epoch: int
    host_id: UUID | None
    target_host_id: UUID | None


class GetPlacement(Query[Placement], subject="partition.get_placement"):
    """The current epoch and host of a partition."""

    partition_id: UUID
