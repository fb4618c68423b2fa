"""Adding devices to and taking them from a domain, as it runs and for its next start."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import libvirt

from openqrm.contracts.errors import DriverError
from openqrm.contracts.partition import PartitionDefinition
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domains import CONFIG, LIVE, called, look, need

Find = Callable[[str], ET.Element | None]
"""Finds the device in a domain's XML."""

DEVICE_SECONDS = 60.0
_POLL_SECONDS = 0.2
_ASK_AGAIN_SECONDS = 5.0
"""A guest that is still booting loses the request."""


def attach(connection: Any, partition: PartitionDefinition, find: Find, xml: str) -> None:
    """Add the device wherever it is not yet. Blocking."""
    sight = need(connection, partition)
    for flag, scope_xml in sight.scopes():
        if find(scope_xml) is None:
            sight.domain.attachDeviceFlags(xml, flag)


async def detach(link: HostLink, partition: PartitionDefinition, find: Find, what: str) -> None:
    """Take the device from the guest, wait until it let go of it, then take it from the definition."""
    doing = f"detach {what} from {called(partition)}"

    def ask(connection: Any) -> bool:
        """Whether the running guest does not have it (any more)."""
        sight = look(connection, partition.id)
        if sight is None or not sight.active:
            return True
        device = find(sight.xml)
        if device is None:
            return True
        try:
            sight.domain.detachDeviceFlags(ET.tostring(device, encoding="unicode"), LIVE)
        except libvirt.libvirtError as error:
            if "process of unplug" not in str(error) and find(sight.domain.XMLDesc(0)) is not None:
                raise
        return False

    def is_gone(connection: Any) -> bool:
        sight = look(connection, partition.id)
        return sight is None or not sight.active or find(sight.xml) is None

    def forget(connection: Any) -> None:
        sight = look(connection, partition.id)
        device = None if sight is None or sight.config_xml is None else find(sight.config_xml)
        if sight is not None and device is not None:
            sight.domain.detachDeviceFlags(ET.tostring(device, encoding="unicode"), CONFIG)

    limit = link.settings.release_timeout_seconds
    end = link.clock.monotonic() + limit
    gone = await link.call(doing, ask, DEVICE_SECONDS)
    while not gone:
        again = min(end, link.clock.monotonic() + _ASK_AGAIN_SECONDS)
        while not gone and link.clock.monotonic() < again:
            await link.clock.sleep(_POLL_SECONDS)
            gone = await link.call(doing, is_gone)
        if not gone and link.clock.monotonic() >= end:
            raise DriverError(
                f"The guest of {called(partition)} did not let go of {what} within {limit:g} s: it may still be "
                "starting up, be using it, or know no hot-plug. Try again, or do it while the partition is stopped."
            )
        if not gone:
            gone = await link.call(doing, ask, DEVICE_SECONDS)
    await link.call(doing, forget, DEVICE_SECONDS)
