"""Network interfaces: attached, detached, plugged into another bridge."""

import xml.etree.ElementTree as ET
from typing import Any

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.partition import NicDefinition, PartitionDefinition
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.devices import DEVICE_SECONDS, attach, detach
from openqrm.executor_qemu.domain_reading import find_nic
from openqrm.executor_qemu.domain_xml import remap_nic, render_nic
from openqrm.executor_qemu.domains import called, need
from openqrm.executor_qemu.sides import side_of


async def attach_nic(link: HostLink, partition: PartitionDefinition, nic: NicDefinition) -> None:
    """Add it, found by its MAC address if it is there already."""
    xml = ET.tostring(render_nic(nic, side_of(link.host.connection)), encoding="unicode")

    def run(connection: Any) -> None:
        attach(connection, partition, lambda text: find_nic(text, nic.mac), xml)

    await link.call(f"attach NIC {nic.mac} to {called(partition)}", run, DEVICE_SECONDS)


async def detach_nic(link: HostLink, partition: PartitionDefinition, nic: NicDefinition) -> None:
    """Remove it."""
    await detach(link, partition, lambda text: find_nic(text, nic.mac), f"NIC {nic.mac}")


async def map_nic(link: HostLink, partition: PartitionDefinition, nic: NicDefinition) -> None:
    """Plug it into the bridge that it names; the guest keeps it all the time."""
    side = side_of(link.host.connection)

    def run(connection: Any) -> None:
        sight = need(connection, partition)
        for flag, xml in sight.scopes():
            interface = find_nic(xml, nic.mac)
            if interface is None:
                raise NotFoundError(f"{called(partition)} has no NIC {nic.mac}: attach it first.")
            remap_nic(interface, nic, side)
            sight.domain.updateDeviceFlags(ET.tostring(interface, encoding="unicode"), flag)

    await link.call(f"plug NIC {nic.mac} of {called(partition)} into bridge {nic.bridge}", run, DEVICE_SECONDS)
