"""A guest's twin, run by bare libvirt: the same domain XML but for name, id, MAC address and a copy of the disk."""

import re
import threading
import time
from uuid import uuid4
from xml.etree import ElementTree

import libvirt

from virtual.site import Guest, Laboratory

_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 120.0
_never = threading.Event()
_BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
_MOVE = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    | libvirt.VIR_MIGRATE_UNSAFE
)
"""As openQRM moves, but that the guest goes on by itself where it arrives."""


def pause(seconds: float) -> None:
    """Let time pass."""
    _never.wait(seconds)


def connect(laboratory: Laboratory, host: str) -> libvirt.virConnect:
    """A connection to a host's libvirtd, from where openQRM is, by TLS as openQRM's."""
    lab = laboratory.lab
    return lab.in_controller(lambda: libvirt.open(lab.uri(host, "tls")))


class Twin:
    """The twin of a stopped guest."""

    def __init__(self, laboratory: Laboratory, guest: Guest, host: str) -> None:
        self.connections = {host: connect(laboratory, host)}
        self.host = host
        self._laboratory = laboratory
        original = self.connections[host].lookupByUUIDString(str(guest.id))
        self.domain = self.connections[host].defineXML(self._xml(original.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))

    def _xml(self, text: str) -> str:
        root = ElementTree.fromstring(text)  # noqa: S314 - from the lab's own libvirt
        identity = uuid4()
        for name, value in (("name", f"twin-{identity.hex[:8]}"), ("uuid", str(identity))):
            found = root.find(name)
            assert found is not None
            found.text = value
        for gone in [*root.findall("metadata"), *root.findall("title")]:
            root.remove(gone)
        for mac in root.iter("mac"):
            mac.set("address", re.sub(r"..:..$", f"{identity.hex[:2]}:{identity.hex[2:4]}", mac.get("address", "")))
        for source in root.findall("devices/disk/source"):
            if path := source.get("file"):
                source.set("file", f"{path}.twin-{identity.hex[:8]}")
                self._laboratory.lab.run(self.host, ["cp", path, source.get("file", "")])
        return ElementTree.tostring(root, encoding="unicode")

    def start(self) -> None:
        """Start it."""
        self.domain.create()

    def stop(self) -> None:
        """End it at once."""
        self.domain.destroy()

    def resize(self, mebibytes: int) -> None:
        """Change its memory, now and for the next start, and wait until the guest has given back or taken it."""
        self.domain.setMemoryFlags(mebibytes * 1024, _BOTH)
        end = time.monotonic() + _PATIENCE_SECONDS
        while abs(self.domain.info()[2] - mebibytes * 1024) >= 1024:
            if time.monotonic() > end:
                raise RuntimeError(f"the twin's memory is {self.domain.info()[2]} KiB, not {mebibytes} MiB")
            pause(_POLL_SECONDS)

    def migrate(self, host: str) -> None:
        """Move it to another host while it runs."""
        if host not in self.connections:
            self.connections[host] = connect(self._laboratory, host)
        self.domain = self.domain.migrate3(self.connections[host], {}, _MOVE)
        self.host = host

    def close(self) -> None:
        """Remove it."""
        if self.domain.isActive():
            self.domain.destroy()
        self.domain.undefine()
        for connection in self.connections.values():
            connection.close()
