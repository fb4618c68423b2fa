"""Whether a host runs guests with KVM, found out by running one.

An accessible /dev/kvm proves little: there are paravirtual KVMs that interpret the instructions of an ordinary guest
one by one, so that it starts and never gets anywhere. So a tiny guest, the boot sector below, goes the way of a
kernel: real mode, long mode with paging, timer interrupts, then a hundred million turns of a loop. That takes a real
KVM a fraction of a second.
"""

import logging
import xml.etree.ElementTree as ET
from typing import Any
from uuid import uuid4

import libvirt

from openqrm.contracts.errors import FieldProblem, InvalidError
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.naming import PROBE_NAME_PREFIX
from openqrm.executor_qemu.pools import delete_volume, ensure_pool, volume_xml
from openqrm.executor_qemu.sessions import Session

_log = logging.getLogger(__name__)

KVM, TCG = "kvm", "tcg"

_DONE = b"D"
_SECTOR_BYTES = 512

# Assembled from probe_guest.S.
_BOOT_CODE = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cea117c0000c606008000b052baf803eeb800108ec031ff31c0b90018f3ab2666c7060000"
    "031001002666c7060010032001002666c70600208300000031c08ec0bf0090b90801f3abc7060092077dc70602920800"
    "c7060492008eb011e620e6a0b020e621b028e6a1b004e621b002e6a1b001e621e6a1b0fee621b0ffe6a1b034e643b09c"
    "e640b02ee640e4920c0224fee692660f0116407d660f011e467d66b8200000000f22e066b8000001000f22d866b98000"
    "00c00f32660d000100000f3066b8010000800f22c066eadd7c00000800b8100000008ed88ed0bc007c0000b04c66baf8"
    "03eefbb900e1f505ffc975fcc604250080000001f4ebfd5052b054803c2500800000017502b04466baf803eeb020e620"
    "5a5848cf0f1f4000000000000000000000000000009a200000000000009200001700287d00000f020090"
)


def boot_sector() -> bytes:
    """The probe guest's disk."""
    return _BOOT_CODE.ljust(_SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def probe_domain(name: str, disk_path: str) -> str:
    """The probe guest as a KVM domain."""
    domain = ET.Element("domain", {"type": "kvm"})
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "memory", {"unit": "MiB"}).text = "16"
    ET.SubElement(domain, "vcpu").text = "1"
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type", {"arch": "x86_64", "machine": "pc"}).text = "hvm"
    ET.SubElement(domain, "cpu", {"mode": "host-model"})
    devices = ET.SubElement(domain, "devices")
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(disk, "source", {"file": disk_path})
    ET.SubElement(disk, "target", {"dev": "hda", "bus": "ide"})
    ET.SubElement(devices, "serial", {"type": "pty"})
    ET.SubElement(devices, "memballoon", {"model": "none"})
    return ET.tostring(domain, encoding="unicode")


async def acceleration_of(link: HostLink) -> str:
    """`kvm` or `tcg`: what partitions run with on this host. Probed once per connection.

    The host's option `acceleration` (kvm, tcg) replaces the probe.
    """
    chosen = link.host.connection.options.get("acceleration")
    if chosen is not None:
        if chosen not in (KVM, TCG):
            message = f"{chosen} is neither kvm nor tcg"
            raise InvalidError(
                f"The option acceleration of host '{link.host.name}' is wrong: {message}.",
                fields=(FieldProblem(field="connection.options.acceleration", message=message),),
            )
        return chosen
    async with link.probing:
        if link.acceleration is None:
            link.acceleration = KVM if await _kvm_works(link) else TCG
            _log.info("host %s runs partitions with %s", link.host.name, link.acceleration)
        return link.acceleration


def _offers_kvm(connection: Any) -> bool:
    try:
        connection.getDomainCapabilities(None, "x86_64", None, "kvm", 0)
    except libvirt.libvirtError:
        return False
    return True


async def _kvm_works(link: HostLink) -> bool:
    if not await link.call("read what the hypervisor offers", _offers_kvm):
        return False
    path, name = link.host.connection.storage_path, f"{PROBE_NAME_PREFIX}{uuid4().hex[:8]}"
    disk_path = await link.call("make the disk of the KVM probe", lambda connection: _make_disk(connection, path, name))
    try:
        async with link.dedicated() as session:
            return await _reaches_its_end(session, name, disk_path, link.settings.probe_timeout_seconds)
    finally:
        await link.call(
            "delete the disk of the KVM probe", lambda connection: delete_volume(ensure_pool(connection, path), name)
        )


def _make_disk(connection: Any, path: str, name: str) -> str:
    volume = ensure_pool(connection, path).createXML(volume_xml(name, "raw", _SECTOR_BYTES), 0)
    stream = connection.newStream(0)
    volume.upload(stream, 0, _SECTOR_BYTES, 0)
    stream.send(boot_sector())
    stream.finish()
    return str(volume.path())


async def _reaches_its_end(session: Session, name: str, disk_path: str, timeout: float) -> bool:
    def run(connection: Any) -> bool:
        # Destroyed by libvirt with this connection, whatever happens to us.
        domain = connection.createXML(probe_domain(name, disk_path), libvirt.VIR_DOMAIN_START_AUTODESTROY)
        stream = connection.newStream(0)
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        while data := stream.recv(4096):
            if _DONE in data:
                domain.destroy()
                return True
        return False

    try:
        return await session.run(run, timeout)
    except TimeoutError:
        _log.warning("KVM starts a guest but does not run it at a bearable speed: emulating instead")
        return False
    except libvirt.libvirtError as error:
        _log.warning("KVM does not start a guest, emulating instead: %s", error)
        return False
