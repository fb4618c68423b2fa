"""Images: operating systems and applications that disks are made from."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Name, Ref
from openqrm.contracts.message import Command, Event, Query
from openqrm.contracts.paging import Page, Paging


class ImageFormat(StrEnum):
    """How the image's bytes are laid out."""

    QCOW2 = "qcow2"
    RAW = "raw"
    ISO = "iso"


class ImageView(BaseModel):
    """An image as inventory knows it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    revision: int
    name: Name
    description: str
    format: ImageFormat
    size_bytes: int = Field(description="Bytes of the file")
    virtual_size_mib: int = Field(description="MiB of the disk that it unfolds to")
    sha256: str
    location: str = Field(description="Where executors read it: file:///… or https://…")
    created_at: AwareDatetime


class RegisterImage(Command, subject="image.register"):
    """Make an image known whose bytes lie at `location` already."""

    image_id: UUID | None = None
    name: Name
    description: str = Field(default="", max_length=1000)
    format: ImageFormat
    size_bytes: int = Field(gt=0)
    virtual_size_mib: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    location: str = Field(pattern=r"^(file|https?)://.+", max_length=2000)


class DeleteImage(Command, subject="image.delete"):
    """Forget an image. Disks made from it are whole copies and stay."""

    image: Ref


class ImageEvent(Event):
    """Something about an image; carries it whole."""

    image: ImageView
    operation_id: UUID | None = None


class ImageRegistered(ImageEvent, subject="image.registered"):
    """An image can be used."""


class ImageDeleted(ImageEvent, subject="image.deleted"):
    """An image was forgotten."""


class GetImage(Query[ImageView], subject="image.get"):
    """One image by id or name."""

    image: Ref


class ListImages(Query[Page[ImageView]], subject="image.list"):
    """Images by name."""

    paging: Paging = Paging()
