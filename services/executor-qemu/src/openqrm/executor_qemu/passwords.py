"""Passwords of network disks, kept by the host's libvirt in memory. Blocking: these run in a host's threads."""

from typing import Any

import libvirt

from openqrm.contracts.partition import DiskDefinition, NetworkDisk
from openqrm.executor_qemu.domain_xml import render_secret
from openqrm.executor_qemu.errors import code_of
from openqrm.executor_qemu.naming import secret_id


def ensure_secrets(connection: Any, disks: tuple[DiskDefinition, ...]) -> None:
    """Tell the host the passwords that these disks need; an ephemeral secret is gone after a restart of libvirt."""
    for disk in disks:
        source = disk.source
        if isinstance(source, NetworkDisk) and source.username is not None:
            secret = connection.secretDefineXML(render_secret(disk), 0)
            secret.setValue((source.password or "").encode(), 0)


def forget_secrets(connection: Any, disks: tuple[DiskDefinition, ...]) -> None:
    """Let the host forget them; gone already is fine."""
    for disk in disks:
        source = disk.source
        if isinstance(source, NetworkDisk) and source.username is not None:
            try:
                connection.secretLookupByUUIDString(str(secret_id(disk.id))).undefine()
            except libvirt.libvirtError as error:
                if code_of(error) != libvirt.VIR_ERR_NO_SECRET:
                    raise
