"""The storage pool that our volumes lie in, and the volumes in it. Blocking: these run in a host's threads."""

import xml.etree.ElementTree as ET
from typing import Any

import libvirt

from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.errors import code_of
from openqrm.executor_qemu.naming import pool_name


def find_pool(connection: Any, path: str) -> Any | None:
    """The pool for this folder, whoever made it; libvirt has at most one for each."""
    wanted = path.rstrip("/") or "/"
    for pool in connection.listAllStoragePools():
        found = parse_xml(pool.XMLDesc(0)).findtext("target/path", "")
        if (found.rstrip("/") or "/") == wanted:
            return pool
    return None


def ensure_pool(connection: Any, path: str) -> Any:
    """The pool for this folder, made and started if it has to be."""
    pool = find_pool(connection, path)
    if pool is None:
        element = ET.Element("pool", {"type": "dir"})
        ET.SubElement(element, "name").text = pool_name(path)
        ET.SubElement(ET.SubElement(element, "target"), "path").text = path
        try:
            pool = connection.storagePoolDefineXML(ET.tostring(element, encoding="unicode"), 0)
        except libvirt.libvirtError:
            pool = find_pool(connection, path)  # another call may have been faster
            if pool is None:
                raise
    if not pool.isActive():
        try:
            pool.build(0)
            pool.create(0)
        except libvirt.libvirtError:
            if not pool.isActive():
                raise
    if not pool.autostart():
        pool.setAutostart(1)
    return pool


def find_volume(pool: Any, name: str) -> Any | None:
    """The volume with this name as far as the pool knows, or None."""
    try:
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if code_of(error) == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise


def volume_xml(name: str, layout: str, capacity_bytes: int) -> str:
    """A volume that takes up no more than is written to it."""
    element = ET.Element("volume")
    ET.SubElement(element, "name").text = name
    ET.SubElement(element, "capacity", {"unit": "bytes"}).text = str(capacity_bytes)
    ET.SubElement(element, "allocation", {"unit": "bytes"}).text = "0"
    target = ET.SubElement(element, "target")
    ET.SubElement(target, "format", {"type": layout})
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = "0600"
    return ET.tostring(element, encoding="unicode")


def make_volume(pool: Any, name: str, layout: str, capacity_bytes: int) -> Any:
    """An empty volume; one that is there already is returned as it is."""
    try:
        return pool.createXML(volume_xml(name, layout, capacity_bytes), 0)
    except libvirt.libvirtError as error:
        if code_of(error) == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
            return pool.storageVolLookupByName(name)
        raise


def delete_volume(pool: Any, name: str) -> bool:
    """Delete the volume; False when there was none."""
    volume = find_volume(pool, name)
    if volume is None:
        return False
    try:
        volume.delete(0)
    except libvirt.libvirtError as error:
        if code_of(error) != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
    return True
