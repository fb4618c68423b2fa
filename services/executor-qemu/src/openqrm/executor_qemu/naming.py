"""Names of our things on a host, derived from ids so that a lost answer never makes a second one. Pure."""

import hashlib
import re
import unicodedata
from uuid import UUID, uuid5

from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import DiskDefinition, DiskFormat

MAX_SLUG_LENGTH = 40


def slug(name: str) -> str:
    """A name as plain ASCII letters, digits and dashes: `Büro 1` becomes `buro-1`; may be empty."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.lower())[:MAX_SLUG_LENGTH].strip("-")


def domain_name(partition_id: UUID, name: str) -> str:
    """The name under which libvirt knows a partition.

    The id's last digits make it unique: the first ones of a UUIDv7 are a timestamp.
    """
    return f"{slug(name) or 'partition'}-{partition_id.hex[-8:]}"


def pool_name(path: str) -> str:
    """The name of the storage pool for a folder."""
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    return f"openqrm-{slug(path) or 'root'}-{digest}"


def volume_name(partition_id: UUID, disk_id: UUID, disk_format: DiskFormat) -> str:
    """The name of a volume made for a partition's disk."""
    return f"{partition_id}-{disk_id}.{disk_format.value}"


def image_prefix(sha256: str) -> str:
    """What the names of all uploads of an image begin with."""
    return f"image-{sha256}-"


def image_volume_name(sha256: str, upload: str, image_format: ImageFormat) -> str:
    """The name of one upload of an image; it counts once a volume of the same name + `.complete` stands beside it."""
    return f"{image_prefix(sha256)}{upload}.{image_format.value}"


COMPLETE_SUFFIX = ".complete"

PROBE_NAME_PREFIX = "openqrm-probe-"
"""What the guests of the KVM probe are called; they are nobody's partitions."""


def secret_id(disk_id: UUID) -> UUID:
    """The id of the libvirt secret that holds a network disk's password."""
    return uuid5(disk_id, "chap")


def disk_alias(disk: DiskDefinition) -> str:
    """The name by which QEMU and libvirt's events call a disk; libvirt wants the prefix `ua-`."""
    return f"ua-disk-{disk.id}"


def nic_alias(mac: str) -> str:
    """The same for a network interface."""
    return f"ua-nic-{mac.replace(':', '')}"
