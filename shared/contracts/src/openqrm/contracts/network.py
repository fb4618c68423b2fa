"""Networks: what a NIC is mapped to, and which bridge carries it on each host."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Name, Ref
from openqrm.contracts.message import Command, Event, Query
from openqrm.contracts.paging import Page, Paging

Bridge = str


class NetworkView(BaseModel):
    """A network as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int
    name: Name
    description: str
    bridge: Bridge = Field(
        description="The bridge or port group that carries it on hosts without an entry of their own"
    )
    host_bridges: dict[UUID, Bridge] = Field(description="Bridge by host, where it differs")
    vlan: int | None
    created_at: AwareDatetime


class CreateNetwork(Command, subject="network.create"):
    """Make a network known. Its bridge must exist on every host that is to carry it."""

    network_id: UUID | None = Field(default=None, description="Chosen by the caller, or made")
    name: Name
    description: str = Field(default="", max_length=1000)
    bridge: Bridge = Field(pattern=r"^[A-Za-z0-9_.:-]{1,60}$", examples=["br0"])
    host_bridges: dict[UUID, Bridge] = Field(default_factory=dict)
    vlan: int | None = Field(default=None, ge=1, le=4094)


class ChangeNetwork(Command, subject="network.change"):
    """Change a network's name, description or bridges; fields left out stay as they are."""

    network: Ref
    name: Name | None = None
    description: str | None = Field(default=None, max_length=1000)
    bridge: Bridge | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]{1,60}$")
    host_bridges: dict[UUID, Bridge] | None = None
    expected_revision: int | None = None


class DeleteNetwork(Command, subject="network.delete"):
    """Forget a network. Refused while a NIC is mapped to it."""

    network: Ref
    expected_revision: int | None = None


class NetworkEvent(Event):
    """Something about a network; carries it whole."""

    network: NetworkView
    operation_id: UUID | None = None


class NetworkCreated(NetworkEvent, subject="network.created"):
    """A network is known."""


class NetworkChanged(NetworkEvent, subject="network.changed"):
    """A network's settings changed."""


class NetworkDeleted(NetworkEvent, subject="network.deleted"):
    """A network was forgotten."""


class GetNetwork(Query[NetworkView], subject="network.get"):
    """One network by id or name."""

    network: Ref


class ListNetworks(Query[Page[NetworkView]], subject="network.list"):
    """Networks by name."""

    paging: Paging = Paging()
