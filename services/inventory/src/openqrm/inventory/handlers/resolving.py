"""From what a command names to what there is: networks, images, disks, capabilities."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import bindparam, select

from openqrm.contracts.errors import FieldProblem, InvalidError, NotFoundError, UnsupportedError
from openqrm.contracts.ids import is_id, new_id
from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import (
    DiskBus,
    DiskDefinition,
    DiskProtocol,
    DiskSpec,
    ImageContent,
    ImageDisk,
    NetworkDisk,
)
from openqrm.contracts.technology import Capability, Manifest
from openqrm.inventory.adapters.columns import json_as_text
from openqrm.inventory.adapters.partitions import row_to_network, select_networks
from openqrm.inventory.adapters.tables import images, networks, technologies
from openqrm.inventory.domain.partition import Network
from openqrm.inventory.transaction import Transaction
from openqrm.persistence.connection import Statement

_network = select_networks().with_for_update(read=True)

_NETWORK = Statement(_network.where(networks.c.id == bindparam("id")))
_NETWORK_NAMED = Statement(_network.where(networks.c.name == bindparam("name")))
_IMAGE = Statement(select(images).where(images.c.id == bindparam("id")))
_IMAGE_NAMED = Statement(select(images).where(images.c.name == bindparam("name")))
_MANIFEST = Statement(select(json_as_text(technologies.c.manifest)).where(technologies.c.name == bindparam("name")))


async def find_network(tx: Transaction, ref: str) -> Network:
    """A network by id or name; NotFoundError if there is none."""
    connection = tx.connection
    row = await (connection.one(_NETWORK, id=UUID(ref)) if is_id(ref) else connection.one(_NETWORK_NAMED, name=ref))
    if row is None:
        raise NotFoundError(
            f"There is no network {ref!r}. List the networks to see which there are.", details={"network": ref}
        )
    return row_to_network(row)


async def find_image(tx: Transaction, ref: str) -> ImageContent:
    """An image's content by id or name; NotFoundError if there is none."""
    connection = tx.connection
    row = await (connection.one(_IMAGE, id=UUID(ref)) if is_id(ref) else connection.one(_IMAGE_NAMED, name=ref))
    if row is None:
        raise NotFoundError(
            f"There is no image {ref!r}. List the images to see which there are.", details={"image": ref}
        )
    return ImageContent(
        image_id=row["id"],
        format=ImageFormat(row["format"]),
        size_bytes=row["size_bytes"],
        virtual_size_mib=row["virtual_size_mib"],
        sha256=row["sha256"],
        location=row["location"],
    )


async def manifest_of(tx: Transaction, technology: str) -> Manifest | None:
    """What a technology's executor announced; None before it did. NotFoundError when nobody knows the technology."""
    row = await tx.connection.one(_MANIFEST, name=technology)
    if row is None:
        raise NotFoundError(
            f"There is no technology {technology!r}. List the technologies to see which there are.",
            details={"technology": technology},
        )
    return Manifest.model_validate_json(row["manifest"]) if row["manifest"] else None


async def require_capability(tx: Transaction, technology: str, capability: Capability) -> Manifest | None:
    """Refuse, with the driver's own reason, what the technology cannot do."""
    manifest = await manifest_of(tx, technology)
    if manifest and capability not in manifest.capabilities:
        reason = manifest.unsupported.get(capability, "its driver does not declare it")
        raise UnsupportedError(
            f"{manifest.title} has no {capability.value}: {reason}",
            details={"technology": technology, "capability": capability.value},
        )
    return manifest


def check_disk(spec: DiskSpec, field: str) -> None:
    """Refuse combinations that no hypervisor could build."""
    source = spec.source
    if isinstance(source, NetworkDisk) and source.protocol is not DiskProtocol.ISCSI and source.username:
        raise InvalidError(
            f"{field}: only iSCSI disks have a user name and a password, not {source.protocol.value}.",
            fields=(FieldProblem(field=f"{field}.source.username", message="only for iSCSI"),),
        )


async def define_disk(
    tx: Transaction, spec: DiskSpec, field: str, next_target: Callable[[DiskBus], str]
) -> DiskDefinition:
    """A disk with everything resolved."""
    source, image, bus, read_only = spec.source, None, spec.bus, spec.read_only
    if isinstance(source, ImageDisk):
        image = await find_image(tx, source.image)
        if image.format is ImageFormat.ISO:
            # Firmware finds CD-ROMs on these controllers only.
            bus, read_only = (bus if bus in (DiskBus.SATA, DiskBus.IDE) else DiskBus.IDE), True
        elif source.size_mib is not None and source.size_mib < image.virtual_size_mib:
            raise InvalidError(
                f"{field}: the image {source.image!r} needs {image.virtual_size_mib} MiB, so a disk of "
                f"{source.size_mib} MiB is too small for it.",
                fields=(
                    FieldProblem(
                        field=f"{field}.source.size_mib",
                        message="smaller than the image",
                        limit=str(image.virtual_size_mib),
                    ),
                ),
            )
    return DiskDefinition(
        id=new_id(), target=next_target(bus), source=source, image=image, bus=bus, read_only=read_only
    )
