"""Memory by the balloon, vCPUs by hot-plug or by the guest agent; both for the next start, too."""

from dataclasses import replace
from typing import Any

import libvirt

from openqrm.contracts.errors import DriverError, FieldProblem, InvalidError, UnsupportedError, WrongStateError
from openqrm.contracts.partition import PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import is_emulated, parse_xml, read_size
from openqrm.executor_qemu.domain_xml import with_size
from openqrm.executor_qemu.domains import LIVE, Sight, called, need, write_marks
from openqrm.executor_qemu.errors import code_of
from openqrm.executor_qemu.metadata import Marks
from openqrm.executor_qemu.pinning import check_pins, pin_live

KIB_PER_MIB = 1024
_POLL_SECONDS = 0.05
_CLOSE_ENOUGH_KIB = 1024
_VCPU_SECONDS = 60.0
_AGENT_CHANNEL = "devices/channel/target[@name='org.qemu.guest_agent.0']"


async def resize(link: HostLink, partition: PartitionDefinition, work: Work) -> None:
    """Bring memory and vCPUs to the definition."""
    await check_pins(link, partition)
    sight = await link.call(f"read {called(partition)}", lambda connection: need(connection, partition))
    if sight.active:
        _check_ceilings(partition, sight)
        await _resize_memory(link, partition, sight)
        await work.progress(50, "memory is as wanted")
        await _resize_vcpus(link, partition, sight)

    def write(connection: Any) -> None:
        found = need(connection, partition)
        if found.config_xml is not None:
            connection.defineXML(with_size(found.config_xml, partition))

    await link.call(f"resize {called(partition)} for its next start", write)


def _check_ceilings(partition: PartitionDefinition, sight: Sight) -> None:
    size = read_size(parse_xml(sight.xml))
    wanted = (
        ("memory_mib", partition.memory_mib, size.memory_max_mib, "MiB"),
        ("vcpus", partition.vcpus, size.vcpus_max, "vCPUs"),
    )
    for field, value, ceiling, unit in wanted:
        if ceiling is not None and value > ceiling:
            message = f"{called(partition)} can have {ceiling} {unit} at the most while it runs, {value} were asked for"
            raise InvalidError(
                f"{message}. Stop it to raise the ceiling.",
                fields=(FieldProblem(field=field, message=message, limit=str(ceiling)),),
            )


# ---------------------------------------------------------------------------------------------------- memory


async def _resize_memory(link: HostLink, partition: PartitionDefinition, sight: Sight) -> None:
    wanted = partition.memory_mib * KIB_PER_MIB
    doing = f"change the memory of {called(partition)}"

    def actual(connection: Any) -> int:
        return int(need(connection, partition).domain.info()[2])

    before = await link.call(doing, actual)
    if abs(before - wanted) < _CLOSE_ENOUGH_KIB:
        return
    if sight.observed_state is ObservedState.PAUSED:
        raise WrongStateError(f"{called(partition)} is paused, so its guest cannot give back memory: unpause it first.")

    def inflate(kib: int) -> Any:
        return lambda connection: need(connection, partition).domain.setMemoryFlags(kib, LIVE)

    await link.call(doing, inflate(wanted))
    # A guest may give back memory slowly; only one that stands still is given up.
    seen, since = before, link.clock.monotonic()
    while True:
        now = await link.call(doing, actual)
        if abs(now - wanted) < _CLOSE_ENOUGH_KIB:
            return
        if now != seen:
            seen, since = now, link.clock.monotonic()
        if link.clock.monotonic() - since > link.settings.balloon_timeout_seconds:
            # Else it would shrink at any later time, when the guest's driver comes up.
            await link.call(doing, inflate(seen))
            raise DriverError(
                f"The guest of {called(partition)} stopped at {seen // KIB_PER_MIB} MiB on the way to "
                f"{partition.memory_mib} MiB: its balloon driver does not react, or it cannot spare more. Wait until "
                "it has started up, install virtio-balloon in it, or resize it while it is stopped."
            )
        await link.clock.sleep(_POLL_SECONDS)


# ----------------------------------------------------------------------------------------------------- vCPUs


async def _resize_vcpus(link: HostLink, partition: PartitionDefinition, sight: Sight) -> None:
    wanted = partition.vcpus
    plugged = read_size(parse_xml(sight.xml)).vcpus or wanted
    marks = sight.marks or Marks(partition.epoch)
    used = plugged if marks.guest_vcpus is None else min(marks.guest_vcpus, plugged)
    if wanted == used:
        return
    doing = f"change the vCPUs of {called(partition)}"
    if wanted < plugged and not is_emulated(sight.xml):
        await _unplug(link, partition, doing)
        plugged = wanted
    elif wanted > plugged:
        await link.call(doing, lambda connection: _plug(connection, partition), _VCPU_SECONDS)
        plugged = wanted
    # What the guest uses of them is its own business: after a removal by agent it has to be told of the addition, too.
    if wanted < plugged or marks.guest_vcpus is not None:
        await _ask_agent(link, partition, sight, doing)
    guest_vcpus = wanted if wanted < plugged else None

    def write(connection: Any) -> None:
        found = need(connection, partition)
        write_marks(found, replace(found.marks or marks, guest_vcpus=guest_vcpus))

    if guest_vcpus != marks.guest_vcpus:
        await link.call(doing, write)


def _plug(connection: Any, partition: PartitionDefinition) -> None:
    domain = need(connection, partition).domain
    domain.setVcpusFlags(partition.vcpus, LIVE)
    if partition.cpu_pins:
        pin_live(connection, partition, domain, partition.vcpus)


async def _unplug(link: HostLink, partition: PartitionDefinition, doing: str) -> None:
    def run(connection: Any) -> bool:
        try:
            need(connection, partition).domain.setVcpusFlags(partition.vcpus, LIVE)
        except libvirt.libvirtError as error:
            if code_of(error) == libvirt.VIR_ERR_OPERATION_TIMEOUT:
                return False
            raise
        return True

    if not await link.call(doing, run, _VCPU_SECONDS):
        raise DriverError(
            f"The guest of {called(partition)} did not let go of its vCPUs. Try again once it has started up, "
            "or resize it while it is stopped."
        )


async def _ask_agent(link: HostLink, partition: PartitionDefinition, sight: Sight, doing: str) -> None:
    channel = parse_xml(sight.xml).find(_AGENT_CHANNEL)
    answers = channel is not None and channel.get("state") == "connected"

    def run(connection: Any) -> bool:
        domain = need(connection, partition).domain
        domain.agentSetResponseTimeout(link.settings.agent_timeout_seconds, 0)
        try:
            domain.setVcpusFlags(partition.vcpus, libvirt.VIR_DOMAIN_VCPU_GUEST)
        except libvirt.libvirtError as error:
            if code_of(error) == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                return False
            raise
        return True

    if not answers or not await link.call(doing, run, _VCPU_SECONDS):
        raise UnsupportedError(
            f"Cannot take vCPUs from {called(partition)} while it runs: QEMU's emulation crashes when a vCPU is "
            "unplugged, and no guest agent answers that could leave vCPUs unused. Start qemu-guest-agent in the guest, "
            "or resize it while it is stopped."
        )


def clear_guest_vcpus(sight: Sight) -> bool:
    """After a reboot the guest uses all its vCPUs again: forget that it did not. Blocking."""
    if sight.marks is None or sight.marks.guest_vcpus is None:
        return False
    write_marks(sight, replace(sight.marks, guest_vcpus=None))
    return True
