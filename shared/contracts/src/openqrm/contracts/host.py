"""Hosts: resources that carry partitions. How they are reached, what they have, the commands and facts about them."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Name, Ref, Tag, Technology, new_id
from openqrm.contracts.message import EXECUTOR, HA_MONITOR, INVENTORY, Command, Event, Query, Sample
from openqrm.contracts.paging import Page, Paging
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.states import HostState


class NumaNode(BaseModel):
    """One NUMA node of a host."""

    model_config = ConfigDict(frozen=True)

    number: int
    memory_mib: int
    cpus: tuple[int, ...]


class HostStorage(BaseModel):
    """A place on the host where disks are kept."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str
    total_mib: int
    free_mib: int


class HostFacts(BaseModel):
    """What an executor read off a host."""

    model_config = ConfigDict(frozen=True)

    hostname: str
    architecture: str
    cpu_model: str
    cpus: int = Field(description="Logical CPUs")
    sockets: int = 1
    cores_per_socket: int = 1
    threads_per_core: int = 1
    numa_nodes: tuple[NumaNode, ...] = ()
    memory_mib: int
    memory_free_mib: int | None = None
    acceleration: str = Field(default="", description="Such as kvm or tcg, probed by running it")
    versions: dict[str, str] = Field(default_factory=dict, description="Such as libvirt: 9.0.0")
    bridges: tuple[str, ...] = ()
    storages: tuple[HostStorage, ...] = ()
    features: frozenset[str] = frozenset()


class HostConnection(BaseModel):
    """How an executor reaches a host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(pattern=r"^[a-z][a-z0-9+.-]*://[^\s]*$", max_length=1000, examples=["qemu+ssh://root@kvm1/system"])
    host_key: str | None = Field(
        default=None,
        max_length=2000,
        description="The host's SSH public key (ssh-ed25519 AAAA…) or its SHA256 fingerprint, for addresses over SSH",
    )
    storage_path: str = Field(
        default="/var/lib/openqrm/disks",
        pattern=r"^/[^\x00\n]*$",
        description="Where disks made for partitions lie",
    )
    shared_storage: bool = Field(default=False, description="Whether other hosts see the same storage_path")
    migration_address: str | None = Field(
        default=None,
        max_length=255,
        description="Address for migration traffic, if it is not the one in the URI",
    )
    options: dict[str, str] = Field(default_factory=dict, description="More, by technology; see the executor's README")


class HostView(BaseModel):
    """A host as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int = Field(description="Raised by one with every event about it; the ETag of the API")
    name: Name
    technology: Technology
    state: HostState
    state_reason: str
    connection: HostConnection
    tags: tuple[Tag, ...]
    cpu_overcommit: float
    memory_overcommit: float
    memory_reserve_mib: int
    facts: HostFacts | None
    cpus_reserved: int = Field(description="vCPUs of the partitions placed on it")
    memory_reserved_mib: int = Field(description="MiB of the partitions placed on it")
    partitions: int
    operation_id: UUID | None
    last_seen_at: AwareDatetime | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


# ------------------------------------------------------------------------------------------------ commands


class EnrolHost(Command, subject="host.enrol"):
    """Make a host known and reach it for the first time."""

    host_id: UUID = Field(default_factory=new_id)
    name: Name
    technology: Technology
    connection: HostConnection
    tags: tuple[Tag, ...] = Field(default=(), max_length=64)
    cpu_overcommit: float = Field(default=4.0, gt=0, le=100, description="vCPUs per logical CPU")
    memory_overcommit: float = Field(default=1.0, gt=0, le=10, description="Reservable memory per physical memory")
    memory_reserve_mib: int = Field(default=512, ge=0, description="MiB kept for the host itself")
    prepare: bool = Field(default=False, description="Prepare it as well, as host.prepare does")


class HostCommand(Command):
    """A command on one host that exists."""

    host: Ref
    expected_revision: int | None = Field(default=None, description="Refuse if the host changed since")


class PrepareHost(HostCommand, subject="host.prepare"):
    """Install and configure the hypervisor; what was changed is the operation's result."""


class MaintainHost(HostCommand, subject="host.maintain"):
    """Take no more partitions; with `evacuate`, move those on it away first."""

    evacuate: bool = False


class ActivateHost(HostCommand, subject="host.activate"):
    """Take partitions (again)."""


class RemoveHost(HostCommand, subject="host.remove"):
    """Forget a host that carries no partitions."""

    force: bool = Field(
        default=False, description="Forget its partitions with it; they are not touched on the host itself"
    )


class ChangeHost(HostCommand, subject="host.change"):
    """Change a host's name, tags, ratios or connection; fields left out stay as they are."""

    name: Name | None = None
    tags: tuple[Tag, ...] | None = Field(default=None, max_length=64)
    connection: HostConnection | None = None
    cpu_overcommit: float | None = Field(default=None, gt=0, le=100)
    memory_overcommit: float | None = Field(default=None, gt=0, le=10)
    memory_reserve_mib: int | None = Field(default=None, ge=0)


# ------------------------------------------------------------------------------------------------ from executors


class HostObserved(Event, subject="host.observed", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """Everything that an executor sees on one host: on first contact, after a change, and now and then."""

    host_id: UUID
    facts: HostFacts
    partitions: tuple[ObservedPartition, ...]
    observed_at: AwareDatetime


class HostConnected(Event, subject="host.connected", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """An executor reached a host (again)."""

    host_id: UUID
    observed_at: AwareDatetime


class HostDisconnected(Event, subject="host.disconnected", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """An executor lost a host, or cannot reach it."""

    host_id: UUID
    reason: str
    observed_at: AwareDatetime


class HostHeartbeat(Sample, subject="host.heartbeat", publishers=(EXECUTOR,), consumers=(HA_MONITOR, INVENTORY)):
    """A host answered its executor just now."""

    host_id: UUID
    technology: Technology
    observed_at: AwareDatetime


# ------------------------------------------------------------------------------------------------ events


class HostEvent(Event):
    """Something about a host; carries it whole."""

    host: HostView
    operation_id: UUID | None = None
    reason: str = ""


class HostEnrolled(HostEvent, subject="host.enrolled"):
    """A host is known and was reached."""


class HostPrepared(HostEvent, subject="host.prepared"):
    """Its hypervisor is installed and configured."""


class HostActivated(HostEvent, subject="host.activated"):
    """It takes partitions."""


class HostMaintained(HostEvent, subject="host.maintained"):
    """It is in maintenance."""


class HostRemoved(HostEvent, subject="host.removed"):
    """It was forgotten."""


class HostChanged(HostEvent, subject="host.changed"):
    """Anything else about it changed: facts, tags, ratios, its state on the way."""


class HostLost(HostEvent, subject="host.lost"):
    """It does not answer. Its partitions are in doubt; none of them is started elsewhere without a proof."""


class HostReturned(HostEvent, subject="host.returned"):
    """It answers again and what runs on it was checked."""


class HostFailed(Event, subject="host.failed", publishers=(HA_MONITOR,), consumers=(INVENTORY,)):
    """A host is dead, and that is proven: commands that wait for it are purged."""

    host_id: UUID
    proof: str


# ------------------------------------------------------------------------------------------------ queries


class HostSort(StrEnum):
    """What a list of hosts can be sorted by."""

    NAME = "name"
    CREATED_AT = "created_at"
    STATE = "state"


class GetHost(Query[HostView], subject="host.get"):
    """One host by id or name."""

    host: Ref


class ListHosts(Query[Page[HostView]], subject="host.list"):
    """Hosts that pass every given filter. Removed ones only when asked for by state."""

    state: HostState | None = None
    technology: Technology | None = None
    tag: Tag | None = None
    name_contains: str | None = Field(default=None, min_length=1, max_length=200)
    sort: HostSort = HostSort.NAME
    paging: Paging = Paging()
