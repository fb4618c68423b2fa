"""Resources: physical servers and partitions in one list."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Name, Ref, Tag, Technology
from openqrm.contracts.message import Query
from openqrm.contracts.paging import Page, Paging


class ResourceKind(StrEnum):
    """What a resource is made of."""

    PHYSICAL = "physical"
    PARTITION = "partition"


class ResourceView(BaseModel):
    """Anything that can run an operating system."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: ResourceKind
    name: Name
    state: str
    technology: Technology | None = Field(description="Of the partition, or of the host role that it has")
    memory_mib: int | None
    cpus: int | None
    tags: tuple[Tag, ...]
    is_host: bool
    created_at: AwareDatetime


class GetResource(Query[ResourceView], subject="resource.get"):
    """One resource by id or name."""

    resource: Ref


class ListResources(Query[Page[ResourceView]], subject="resource.list"):
    """Resources by name."""

    kind: ResourceKind | None = None
    tag: Tag | None = None
    name_contains: str | None = Field(default=None, min_length=1, max_length=200)
    paging: Paging = Paging()
