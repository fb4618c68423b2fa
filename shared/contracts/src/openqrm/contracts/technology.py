"""A technology: what its driver can do and the MAC range that its NICs get their addresses from."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.ids import MacAddress, Technology
from openqrm.contracts.message import EXECUTOR, INVENTORY, Event, Query


class Capability(StrEnum):
    """The small protocols that a driver is composed of."""

    LIFECYCLE = "lifecycle"
    PAUSE = "pause"
    RESIZE = "resize"
    CPU_PINNING = "cpu-pinning"
    NICS = "nics"
    DISKS = "disks"
    MIGRATION = "migration"
    CONSOLE = "console"
    OBSERVATION = "observation"
    HOST_PREPARATION = "host-preparation"
    POWER = "power"


class MacRange(BaseModel):
    """A technology's MAC namespace: both ends belong to it."""

    model_config = ConfigDict(frozen=True)

    first: MacAddress
    last: MacAddress


class Manifest(BaseModel):
    """What a driver declares about itself in driver.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technology: Technology
    title: str = Field(description="The name that people know it by, such as QEMU/KVM")
    capabilities: frozenset[Capability]
    unsupported: dict[Capability, str] = Field(
        default_factory=dict, description="Why each capability that is not declared is missing"
    )
    mac_range: MacRange | None = Field(default=None, description="None where guests have no MAC of their own")
    uri_schemes: tuple[str, ...] = Field(description="Schemes of host addresses, such as qemu+ssh")
    features: frozenset[str] = Field(
        default=frozenset(), description="Finer points for scheduler and UI, such as live-migration"
    )


class TechnologyView(BaseModel):
    """A technology as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    name: Technology
    title: str
    available: bool = Field(description="Whether an executor for it has announced itself")
    manifest: Manifest | None
    mac_range: MacRange | None
    macs_used: int
    macs_free: int


class TechnologyList(BaseModel):
    """All technologies."""

    items: tuple[TechnologyView, ...]


class ExecutorAnnounced(Event, subject="executor.announced", publishers=(EXECUTOR,), consumers=(INVENTORY,)):
    """An executor started and says what its driver can do."""

    manifest: Manifest
    version: str


class ListTechnologies(Query[TechnologyList], subject="technology.list"):
    """Which technologies are known, what they can do, how full their MAC namespaces are."""
