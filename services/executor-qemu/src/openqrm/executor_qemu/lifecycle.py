"""Making, starting, ending and removing partitions; pausing them."""

import logging
from typing import Any

import libvirt

from openqrm.contracts.errors import (
    ConflictError,
    DriverError,
    OpenQrmError,
    PermanentError,
    TimedOutError,
    UnsupportedError,
    WrongStateError,
)
from openqrm.contracts.partition import DiskDefinition, Firmware, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import own_volumes, parse_xml
from openqrm.executor_qemu.domain_xml import is_made, render_domain
from openqrm.executor_qemu.domains import CONFIG, Sight, called, look, need, write_marks
from openqrm.executor_qemu.errors import code_of
from openqrm.executor_qemu.metadata import HELD_RUNNING, Marks
from openqrm.executor_qemu.naming import domain_name
from openqrm.executor_qemu.passwords import ensure_secrets, forget_secrets
from openqrm.executor_qemu.pinning import check_pins
from openqrm.executor_qemu.sides import full_side
from openqrm.executor_qemu.volumes import check_size, delete_volumes, existing_volumes, make_disk_volume

_log = logging.getLogger(__name__)

START_SECONDS = 120.0
DESTROY_SECONDS = 60.0
"""libvirt gives a QEMU process that does not end by itself about ten seconds before it kills it."""
_POLL_SECONDS = 0.25
_PRESS_AGAIN_SECONDS = 10.0
"""A power button pressed before the guest listens is lost."""

_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def undefine(domain: Any) -> None:
    """Remove a stopped domain's definition and what libvirt keeps with it. Blocking."""
    domain.undefineFlags(_UNDEFINE)


def _was_not_running(error: libvirt.libvirtError) -> bool:
    return code_of(error) in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)


def offers_uefi(capabilities: str) -> bool:
    """Whether a host's domain capabilities have a UEFI firmware."""
    values = parse_xml(capabilities).findall("os/enum[@name='firmware']/value")
    return any(value.text == "efi" for value in values)


async def _check_firmware(link: HostLink, partition: PartitionDefinition) -> None:
    if partition.firmware is not Firmware.UEFI:
        return

    def read(connection: Any) -> bool:
        return offers_uefi(connection.getDomainCapabilities(None, "x86_64", "q35", None, 0))

    if not await link.call("read what the hypervisor offers", read):
        raise UnsupportedError(
            f"Host '{link.host.name}' has no UEFI firmware for {called(partition)}. Install it "
            f"(package ovmf, or openqrm host prepare '{link.host.name}'), or use BIOS."
        )


async def define(link: HostLink, partition: PartitionDefinition, marks: Marks, work: Work, name: str | None) -> None:
    """Define the domain, or bring a stopped one to the definition; `name`: the one it has."""
    await _check_firmware(link, partition)
    await check_pins(link, partition)
    side = await full_side(link, partition, work)
    xml = render_domain(partition, name or domain_name(partition.id, partition.name), side, marks)

    def write(connection: Any) -> None:
        ensure_secrets(connection, partition.disks)
        connection.defineXML(xml)

    await link.call(f"define {called(partition)}", write)


async def create(link: HostLink, partition: PartitionDefinition, work: Work) -> None:
    """Define the partition and make its volumes.

    It is defined first, with the disks that are still to be made noted beside it: after a crash in the middle the
    next attempt knows which volumes are half made, and which hold somebody's data.
    """
    for disk in partition.disks:
        check_size(disk)
    sight = await link.call(f"look for {called(partition)}", lambda connection: look(connection, partition.id))
    if sight is not None and sight.active:
        await mark(link, partition)
        return
    made = tuple(disk for disk in partition.disks if is_made(disk))
    there = await existing_volumes(link, partition, made)
    unfinished = sight.marks.making if sight is not None and sight.marks is not None else frozenset()
    missing = {str(disk.id) for disk in made} - there
    making = frozenset(missing | (unfinished & {str(disk.id) for disk in made}))
    marks = Marks(partition.epoch, making=making)
    await define(link, partition, marks, work, None if sight is None else sight.domain.name())
    try:
        for disk in made:
            if str(disk.id) in making:
                await make_disk_volume(link, partition, disk, work)
                marks = marks.without_making(str(disk.id))
                await _write_marks(link, partition, marks)
    except PermanentError:
        if sight is None:  # it will never become a partition: leave nothing of it
            await _undo_create(link, partition, tuple(disk for disk in made if str(disk.id) in making))
        raise
    await work.progress(95, "defined")


async def _undo_create(link: HostLink, partition: PartitionDefinition, disks: tuple[DiskDefinition, ...]) -> None:
    def remove(connection: Any) -> None:
        sight = look(connection, partition.id)
        if sight is not None and not sight.active:
            undefine(sight.domain)
        forget_secrets(connection, partition.disks)

    try:
        await link.call(f"clear away {called(partition)}", remove)
        await delete_volumes(link, partition, disks)
    except OpenQrmError as error:
        _log.warning("something of %s stays on host %s: %s", called(partition), link.host.name, error)


async def _write_marks(link: HostLink, partition: PartitionDefinition, marks: Marks) -> None:
    def write(connection: Any) -> None:
        write_marks(need(connection, partition), marks)

    await link.call(f"mark {called(partition)}", write)


async def mark(link: HostLink, partition: PartitionDefinition) -> None:
    """Write the epoch; what else is noted beside the domain stays."""

    def write(connection: Any) -> None:
        sight = need(connection, partition)
        old = sight.marks or Marks(partition.epoch)
        write_marks(sight, Marks(partition.epoch, old.making, old.held, old.guest_vcpus))

    await link.call(f"write the epoch of {called(partition)}", write)


async def start(link: HostLink, partition: PartitionDefinition, work: Work) -> None:
    """Start it, defining it first if the host lost its definition."""
    sight = await link.call(f"look for {called(partition)}", lambda connection: look(connection, partition.id))
    if sight is None:
        await _check_volumes(link, partition)
        await define(link, partition, Marks(partition.epoch), work, None)

    def run(connection: Any) -> None:
        found = need(connection, partition)
        marks = found.marks or Marks(partition.epoch)
        if marks.making:
            raise DriverError(
                f"Not every disk of {called(partition)} was made to its end. Create it again, or delete it."
            )
        if found.active:
            write_marks(found, Marks(partition.epoch, guest_vcpus=marks.guest_vcpus))
            if marks.held == HELD_RUNNING:
                # Moved here without the last word on its old host; this command is that word.
                found.domain.resume()
            return
        write_marks(found, Marks(partition.epoch))
        found.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, partition.name, None, None, CONFIG)
        ensure_secrets(connection, partition.disks)
        try:
            found.domain.create()
        except libvirt.libvirtError:
            if not found.domain.isActive():  # else another call was faster
                raise

    await link.call(f"start {called(partition)}", run, START_SECONDS)


async def _check_volumes(link: HostLink, partition: PartitionDefinition) -> None:
    there = await existing_volumes(link, partition, partition.disks)
    gone: list[DiskDefinition] = [d for d in partition.disks if is_made(d) and str(d.id) not in there]
    if gone:
        targets = ", ".join(disk.target for disk in gone)
        raise DriverError(
            f"Host '{link.host.name}' has neither the definition of {called(partition)} nor the volume of {targets} in "
            f"{link.host.connection.storage_path}. Bring the volume back, or delete the partition."
        )


async def stop(link: HostLink, partition: PartitionDefinition) -> None:
    """End it at once."""

    def destroy(connection: Any) -> None:
        sight = look(connection, partition.id)
        if sight is None or not sight.active:
            return
        try:
            sight.domain.destroy()
        except libvirt.libvirtError as error:
            if not _was_not_running(error):
                raise

    await link.call(f"stop {called(partition)}", destroy, DESTROY_SECONDS)


async def shutdown(link: HostLink, partition: PartitionDefinition, timeout_seconds: int) -> None:
    """Ask the guest, by its agent if it has one and by the power button, until it is off."""
    asked_by_agent = False
    doing = f"shut down {called(partition)}"

    def ask(connection: Any) -> bool:
        nonlocal asked_by_agent
        sight = look(connection, partition.id)
        if sight is None or not sight.active:
            return True
        if sight.observed_state is ObservedState.PAUSED:
            raise WrongStateError(f"{called(partition)} is paused, so its guest cannot react: unpause it first.")
        # Without flags libvirt asks the agent, and presses the button if there is none.
        flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN if asked_by_agent else 0
        asked_by_agent = True
        try:
            sight.domain.shutdownFlags(flags)
        except libvirt.libvirtError as error:
            if _was_not_running(error):
                return not sight.domain.isActive()
            raise
        return False

    def is_off(connection: Any) -> bool:
        sight = look(connection, partition.id)
        return sight is None or not sight.active

    end = link.clock.monotonic() + timeout_seconds
    while not await link.call(doing, ask, DESTROY_SECONDS):
        again = min(end, link.clock.monotonic() + _PRESS_AGAIN_SECONDS)
        while link.clock.monotonic() < again:
            if await link.call(doing, is_off):
                return
            await link.clock.sleep(_POLL_SECONDS)
        if link.clock.monotonic() >= end:
            raise TimedOutError(
                f"The guest of {called(partition)} did not shut down within {timeout_seconds} s. "
                "Try again once it has started up, or stop it by force."
            )


async def reboot(link: HostLink, partition: PartitionDefinition, hard: bool) -> None:
    """Ask the guest to reboot, or reset it."""

    def run(connection: Any) -> None:
        sight = need(connection, partition)
        if not sight.active:
            raise WrongStateError(f"{called(partition)} does not run: start it.")
        if sight.observed_state is ObservedState.PAUSED:
            raise WrongStateError(f"{called(partition)} is paused: unpause it first.")
        if hard:
            sight.domain.reset(0)
        else:
            sight.domain.reboot(0)

    await link.call(f"reboot {called(partition)}", run, DESTROY_SECONDS)


async def delete(link: HostLink, partition: PartitionDefinition) -> None:
    """Undefine it and delete its volumes."""

    def run(connection: Any) -> frozenset[str]:
        sight = look(connection, partition.id)
        volumes: frozenset[str] = frozenset()
        if sight is not None:
            if sight.active:
                raise WrongStateError(f"{called(partition)} runs: shut it down or stop it first.")
            volumes = own_volumes(sight.xml, partition.id, link.host.connection.storage_path)
            undefine(sight.domain)
        forget_secrets(connection, partition.disks)
        return volumes

    attached = await link.call(f"delete {called(partition)}", run)
    await delete_volumes(link, partition, partition.disks, attached)


async def pause(link: HostLink, partition: PartitionDefinition) -> None:
    """Let its CPUs stand still."""

    def run(connection: Any) -> None:
        sight = _need_running(connection, partition)
        if sight.observed_state is not ObservedState.PAUSED:
            sight.domain.suspend()

    await link.call(f"pause {called(partition)}", run)


async def unpause(link: HostLink, partition: PartitionDefinition) -> None:
    """Let it go on."""

    def run(connection: Any) -> None:
        sight = _need_running(connection, partition)
        if sight.marks is not None and sight.marks.held is not None:
            raise ConflictError(
                f"{called(partition)} came here by a migration that did not end, and its old host was not proven to "
                "be without it. Repeat the migration, or start it once the old host is known to be off."
            )
        if sight.observed_state is ObservedState.PAUSED:
            sight.domain.resume()

    await link.call(f"unpause {called(partition)}", run)


def _need_running(connection: Any, partition: PartitionDefinition) -> Sight:
    sight = need(connection, partition)
    if not sight.active:
        raise WrongStateError(f"{called(partition)} does not run: start it first.")
    return sight
