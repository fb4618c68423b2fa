"""MAC addresses: allocation and release, unique in the whole data centre."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import MacAddress, Technology
from openqrm.contracts.message import Query
from openqrm.contracts.paging import Page, Paging


class MacState(StrEnum):
    """Who has an address."""

    ALLOCATED = "allocated"
    QUARANTINED = "quarantined"
    """Released, and kept back for a while: switches and DHCP servers still remember it."""
    FOREIGN = "foreign"
    """Seen on a host, not given out by us; never allocated while it is seen."""


class MacView(BaseModel):
    """One address that is not free."""

    model_config = ConfigDict(frozen=True)

    mac: MacAddress
    technology: Technology
    state: MacState
    partition_id: UUID | None
    note: str
    changed_at: AwareDatetime


class MacAllocation(BaseModel):
    """The address that was allocated."""

    model_config = ConfigDict(frozen=True)

    mac: MacAddress
    technology: Technology


class MacRelease(BaseModel):
    """What became of the address."""

    model_config = ConfigDict(frozen=True)

    mac: MacAddress
    free_after: AwareDatetime = Field(description="When the quarantine ends")


class AllocateMac(Query[MacAllocation], subject="mac.allocate"):
    """Take a free address of a technology's range, or the given one if it is free.

    Sending the same `request_id` twice gives the same address.
    """

    technology: Technology
    request_id: UUID = Field(description="Chosen by the caller; makes the allocation idempotent")
    mac: MacAddress | None = Field(default=None, description="A wished address; any individual address that is free")
    note: str = Field(default="", max_length=200)


class ReleaseMac(Query[MacRelease], subject="mac.release"):
    """Give an address back. It rests in quarantine before it is given out again."""

    mac: MacAddress


class ListMacs(Query[Page[MacView]], subject="mac.list"):
    """The addresses that are not free, in order."""

    technology: Technology | None = None
    state: MacState | None = None
    paging: Paging = Paging()
