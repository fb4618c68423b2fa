"""What we write beside a domain, in libvirt's metadata under our own XML namespace. Pure."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace

NAMESPACE = "https://openqrm.org/xmlns/libvirt/partition/1"
PREFIX = "openqrm"

HELD_RUNNING = "running"
HELD_PAUSED = "paused"

ET.register_namespace(PREFIX, NAMESPACE)

_TAG = f"{{{NAMESPACE}}}partition"


@dataclass(frozen=True)
class Marks:
    """What stands beside a domain."""

    epoch: int
    making: frozenset[str] = frozenset()
    """Ids of disks whose volumes are being made: one that stands here later was never finished."""
    held: str | None = None
    """It came by migration and stands still until its source is proven to be off; then it is to go on (`running`)
    or to stay as it was (`paused`)."""
    guest_vcpus: int | None = None
    """vCPUs that the guest uses since it was asked to leave the others alone; None: all."""

    def with_making(self, disk_id: str) -> "Marks":
        """The marks while a disk's volume is being made."""
        return replace(self, making=self.making | {disk_id})

    def without_making(self, disk_id: str) -> "Marks":
        """The marks once it is made."""
        return replace(self, making=self.making - {disk_id})


def render_marks(marks: Marks) -> ET.Element:
    """The marks as the child of <metadata>."""
    element = ET.Element(_TAG, {"epoch": str(marks.epoch)})
    if marks.held is not None:
        element.set("held", marks.held)
    if marks.guest_vcpus is not None:
        element.set("guest-vcpus", str(marks.guest_vcpus))
    if marks.making:
        element.set("making", " ".join(sorted(marks.making)))
    return element


def render_marks_text(marks: Marks) -> str:
    """The marks as virDomainSetMetadata wants them: libvirt adds the namespace, to the one element only."""
    element = render_marks(marks)
    element.tag = "partition"
    return ET.tostring(element, encoding="unicode")


def read_marks(domain: ET.Element) -> Marks | None:
    """The marks in a domain's XML; None for a stranger."""
    element = domain.find(f"metadata/{_TAG}")
    if element is None:
        return None
    epoch, guest_vcpus = element.get("epoch", ""), element.get("guest-vcpus")
    if not epoch.isdecimal():
        return None
    return Marks(
        epoch=int(epoch),
        making=frozenset(element.get("making", "").split()),
        held=element.get("held"),
        guest_vcpus=int(guest_vcpus) if guest_vcpus else None,
    )


def with_marks(domain: ET.Element, marks: Marks) -> None:
    """Put the marks into a domain's XML, in place of those that are there."""
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    for old in metadata.findall(_TAG):
        metadata.remove(old)
    metadata.append(render_marks(marks))
