"""What a fake host keeps: its partitions and their volumes. This is the truth, and what is written to its file."""

from uuid import UUID

from pydantic import BaseModel, Field

from openqrm.contracts.partition import (
    BlankDisk,
    BlockDisk,
    DiskDefinition,
    FileDisk,
    ImageDisk,
    NetworkDisk,
    NicDefinition,
    ObservedDisk,
    ObservedNic,
    ObservedPartition,
    PartitionDefinition,
)
from openqrm.contracts.states import ObservedState

RUNNING = frozenset({ObservedState.RUNNING, ObservedState.PAUSED})


class Nic(BaseModel):
    """A network interface, as the host has it."""

    mac: str
    bridge: str
    model: str


class Disk(BaseModel):
    """A disk, as the host has it."""

    target: str
    source: str
    bus: str
    own: bool = Field(description="Made for this partition, and deleted with it")


class Size(BaseModel):
    """Memory and CPUs."""

    memory_mib: int
    memory_max_mib: int
    vcpus: int
    vcpus_max: int


class FakePartition(BaseModel):
    """A partition, as the host has it."""

    id: UUID
    name: str
    state: ObservedState = ObservedState.STOPPED
    epoch: int | None = None
    size: Size
    live: Size | None = None
    """While it runs: what it was started with and resized to."""
    cpu_pins: dict[int, tuple[int, ...]] = Field(default_factory=dict)
    nics: list[Nic] = Field(default_factory=list)
    disks: list[Disk] = Field(default_factory=list)
    starts: int = 0
    """How often it was started or reset; a test tells by it whether a reboot took place."""
    handing_over: ObservedState | None = None
    """At the source of a migration in its last moment: the state that it had before."""

    @property
    def runs(self) -> bool:
        """Whether it is in memory, running or paused."""
        return self.state in RUNNING

    def observed(self) -> ObservedPartition:
        """It as an executor sees it."""
        size = self.live or self.size
        return ObservedPartition(
            id=self.id,
            name=self.name,
            state=self.state,
            epoch=self.epoch,
            **size.model_dump(),
            nics=tuple(ObservedNic(mac=nic.mac, bridge=nic.bridge, model=nic.model) for nic in self.nics),
            disks=tuple(ObservedDisk(target=d.target, source=d.source, bus=d.bus) for d in self.disks),
        )


class HostContent(BaseModel):
    """Everything on one host."""

    partitions: dict[UUID, FakePartition] = Field(default_factory=dict)
    volumes: dict[str, int] = Field(default_factory=dict)
    """By path: MiB."""
    prepared: bool = True


def size_of(definition: PartitionDefinition) -> Size:
    """What the definition asks for."""
    return Size(
        memory_mib=definition.memory_mib,
        memory_max_mib=definition.memory_max_mib,
        vcpus=definition.vcpus,
        vcpus_max=definition.vcpus_max,
    )


def nic_of(definition: NicDefinition) -> Nic:
    """A network interface from its definition."""
    return Nic(mac=definition.mac, bridge=definition.bridge, model=definition.model)


def disk_of(definition: DiskDefinition, partition_id: UUID, storage_path: str) -> tuple[Disk, int | None]:
    """A disk from its definition, and the MiB of the volume to be made for it; None when it lies somewhere already."""
    source = definition.source
    size: int | None = None
    match source:
        case ImageDisk():
            size = source.size_mib or (definition.image.virtual_size_mib if definition.image else 1)
            where = f"{storage_path}/{partition_id}-{definition.id}.{source.format.value}"
        case BlankDisk():
            size = source.size_mib
            where = f"{storage_path}/{partition_id}-{definition.id}.{source.format.value}"
        case FileDisk():
            where = source.path
        case BlockDisk():
            where = source.device
        case NetworkDisk():
            where = f"{source.protocol.value}://{source.server}/{source.volume}"
    return Disk(target=definition.target, source=where, bus=definition.bus.value, own=size is not None), size
