"""Moving a partition to another host, and never letting two hosts run it.

The executor manages the migration itself, on connections of its own: if it dies, libvirt ends the migration and the
partition stays where it was. A running partition arrives paused and marked as held; it goes on there only after the
source was read and does not have it any more. So a connection that breaks at the worst moment, when libvirt alone
could let both sides run, leaves at most one that runs and one that stands still.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import libvirt

from openqrm.contracts.errors import CancelledError, NotFoundError, OpenQrmError, UnsupportedError
from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import NicDefinition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import MigrationError, Work
from openqrm.executor_qemu.acceleration import KVM, acceleration_of
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.copying import VolumeCopy
from openqrm.executor_qemu.domain_reading import disk_paths, parse_xml
from openqrm.executor_qemu.domain_xml import for_target
from openqrm.executor_qemu.domains import Sight, called, look, need, write_marks
from openqrm.executor_qemu.lifecycle import DESTROY_SECONDS, undefine
from openqrm.executor_qemu.metadata import HELD_PAUSED, HELD_RUNNING, Marks
from openqrm.executor_qemu.migration_plan import Moves, migration_uri, moved_bytes, percent_of, plan_moves
from openqrm.executor_qemu.passwords import ensure_secrets, forget_secrets
from openqrm.executor_qemu.pools import delete_volume, ensure_pool, make_volume
from openqrm.executor_qemu.sessions import Session
from openqrm.executor_qemu.sides import iso_paths, side_of
from openqrm.executor_qemu.verdicts import Place, place_of, who_has_it
from openqrm.executor_qemu.volumes import delete_volumes, volume_of

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_ABORT_AGAIN_POLLS = 10
_REPETITIONS = 2
"""So often a migration is tried again when it finds the target taken by one that was given up."""
_STALLED_SECONDS = 60.0
"""Without a byte moved for this long, a migration is given up."""
_SETTLE_SECONDS = 30.0
"""How long both hosts are asked again after a failure, until they show clearly who has the partition."""


@dataclass(frozen=True)
class Move:
    """One partition on its way."""

    source: HostLink
    target: HostLink
    partition: PartitionDefinition
    nics: dict[str, NicDefinition]
    live: bool
    bandwidth_mib_s: int | None
    work: Work

    @property
    def doing(self) -> str:
        """The move in words."""
        return f"move {called(self.partition)} to host '{self.target.host.name}'"


async def migrate(move: Move) -> None:
    """Move it. Raises MigrationError, or CancelledError when it was cancelled and stays on the source."""
    partition = move.partition
    source, target = await _sight(move.source, partition), await _sight(move.target, partition)
    places = place_of(source), place_of(target)
    side = who_has_it(*places)
    if side is RunsOn.NEITHER:
        raise MigrationError(f"Neither host has {called(partition)}, so it cannot be moved.", side)
    if side is RunsOn.UNKNOWN:
        raise MigrationError(_contradiction(move, *places), side)
    if side is RunsOn.TARGET:
        await _finish(move)
        return
    if source is None:
        raise NotFoundError(f"Host '{move.source.host.name}' does not have {called(partition)}.")
    if target is not None:
        await _clear_target(move)
    moves = await _plan(move, source)
    if source.active:
        await _move_running(move, source, moves)
    else:
        await _move_stopped(move, source, moves)


async def _sight(link: HostLink, partition: PartitionDefinition) -> Sight | None:
    return await link.call(f"look for {called(partition)}", lambda connection: look(connection, partition.id))


def _contradiction(move: Move, source: Place, target: Place) -> str:
    return (
        f"It is not clear which host has {called(move.partition)}: '{move.source.host.name}' shows it as {source}, "
        f"'{move.target.host.name}' as {target}. Nothing was stopped or started. Look at both hosts and stop the copy "
        "that must not run, then repeat the migration."
    )


async def _plan(move: Move, source: Sight) -> Moves:
    if source.marks is not None and source.marks.making:
        raise MigrationError(
            f"Not every disk of {called(move.partition)} was made to its end: create it again first.", RunsOn.SOURCE
        )
    domain = parse_xml(source.xml)
    moves = plan_moves(move.partition, domain, move.source.host.connection, move.target.host.connection)
    if domain.get("type") == "kvm" and await acceleration_of(move.target) != KVM:
        raise UnsupportedError(
            f"{called(move.partition)} uses KVM, and host '{move.target.host.name}' cannot run guests with KVM."
        )
    return moves


# ------------------------------------------------------------------------------------------ preparing the target


async def _paths_on_target(move: Move, source: Sight, moves: Moves) -> dict[str, str]:
    """Path on the source to path on the target, of copied disks and ISOs."""
    lying = disk_paths(source.xml)
    on_target = await iso_paths(move.target, moves.isos, move.work)
    isos = {lying[disk.target]: on_target[disk.id] for disk in moves.isos if disk.target in lying}
    return {**moves.paths, **isos}


def _target_marks(move: Move, source: Sight, held: str | None) -> Marks:
    old = source.marks or Marks(move.partition.epoch)
    return replace(old, epoch=move.partition.epoch, held=held)


async def _make_target_volumes(move: Move, moves: Moves) -> None:
    """Empty volumes of the same size and format, for the migration to fill."""
    partition, path = move.partition, move.target.host.connection.storage_path

    def sizes(connection: Any) -> dict[str, int]:
        domain = need(connection, partition).domain
        return {disk.target: int(domain.blockInfo(disk.target)[0]) for disk in moves.copied}

    wanted = await move.source.call(f"read the disk sizes of {called(partition)}", sizes)

    def make(connection: Any) -> None:
        pool = ensure_pool(connection, path)
        for disk in moves.copied:
            name = volume_of(partition, disk)
            delete_volume(pool, name)  # of an earlier attempt: its truth lies on the source
            make_volume(pool, name, name.rpartition(".")[2], wanted[disk.target])

    if moves.copied:
        await move.target.call(f"make the volumes of {called(partition)}", make)


async def _clear_target(move: Move) -> None:
    """Remove what an earlier attempt left on the target: a copy that never ran there."""
    partition = move.partition

    def clear(connection: Any) -> None:
        sight = look(connection, partition.id)
        if sight is None:
            return
        if place_of(sight) is Place.ACTIVE:
            raise MigrationError(
                f"{called(partition)} runs on host '{move.target.host.name}', too. Nothing was stopped.",
                RunsOn.UNKNOWN,
            )
        if sight.active:
            sight.domain.destroy()
        if sight.persistent:
            undefine(sight.domain)

    await move.target.call(f"clear away {called(partition)}", clear, DESTROY_SECONDS)


async def _clear_target_storage(move: Move, moves: Moves) -> None:
    await delete_volumes(move.target, move.partition, moves.copied)
    await move.target.call("forget passwords", lambda connection: forget_secrets(connection, move.partition.disks))


# ---------------------------------------------------------------------------------------------- running partitions


def _flags(move: Move, moves: Moves) -> int:
    flags = (
        libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        | libvirt.VIR_MIGRATE_PAUSED
    )
    if move.live:
        flags |= libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if moves.copied:
        flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
    if moves.shared:
        # Declared as shared by the operator; libvirt itself believes only a few kinds of file systems.
        flags |= libvirt.VIR_MIGRATE_UNSAFE
    connections = (move.source.host.connection, move.target.host.connection)
    if all(connection.options.get("migration_tls") == "yes" for connection in connections):
        flags |= libvirt.VIR_MIGRATE_TLS
    return int(flags)


def _parameters(move: Move, moves: Moves, xml: str, config_xml: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: config_xml,
    }
    if (uri := migration_uri(move.target.host.connection)) is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = uri
    if move.bandwidth_mib_s is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = move.bandwidth_mib_s
    if moves.copied:
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = [disk.target for disk in moves.copied]
    return parameters


async def _end_orphan(move: Move) -> None:
    """End a migration that an executor began and did not live to end: libvirt may still be at it."""

    def abort(connection: Any) -> bool:
        sight = look(connection, move.partition.id)
        if sight is None or not sight.active:
            return True
        statistics = sight.domain.jobStats()
        if not statistics.get("type") or statistics.get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
            return True
        with contextlib.suppress(libvirt.libvirtError):
            sight.domain.abortJob()
        return False

    end = move.source.clock.monotonic() + _SETTLE_SECONDS
    while not await move.source.call("end an earlier migration", abort):
        if move.source.clock.monotonic() > end:
            raise MigrationError(
                f"An earlier migration of {called(move.partition)} does not end on host '{move.source.host.name}'. "
                "Try again later.",
                RunsOn.SOURCE,
            )
        await move.source.clock.sleep(_POLL_SECONDS)


async def _move_running(move: Move, source: Sight, moves: Moves) -> None:
    partition = move.partition
    await _end_orphan(move)
    paths = await _paths_on_target(move, source, moves)
    await _make_target_volumes(move, moves)
    await move.target.call("store passwords", lambda connection: ensure_secrets(connection, partition.disks))
    side = side_of(move.target.host.connection)
    paused = source.observed_state is ObservedState.PAUSED and place_of(source) is not Place.SPENT
    marks = _target_marks(move, source, HELD_PAUSED if paused else HELD_RUNNING)

    def transfer(connection: Any, target_connection: Any) -> None:
        domain = need(connection, partition).domain
        whole = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
        xml = domain.XMLDesc(whole)
        config_xml = domain.XMLDesc(whole | libvirt.VIR_DOMAIN_XML_INACTIVE)
        parameters = _parameters(
            move,
            moves,
            for_target(xml, marks, move.nics, paths, side),
            for_target(config_xml, marks, move.nics, paths, side),
        )
        domain.migrate3(target_connection, parameters, _flags(move, moves))

    failure = await _transfer(move, moves, transfer)
    for _ in range(_REPETITIONS):
        if failure is None or not _is_taken(failure) or not await _cleared_late(move):
            break
        failure = await _transfer(move, moves, transfer)
    if failure is None:
        await _finish(move)
    else:
        await _settle(move, moves, failure, paused)


async def _transfer(move: Move, moves: Moves, transfer: Callable[[Any, Any], None]) -> BaseException | None:
    """Let libvirt move it; returns what went wrong."""
    try:
        async with move.source.dedicated() as sending, move.target.dedicated() as receiving:

            def run(connection: Any) -> None:
                with receiving.held() as target_connection:
                    transfer(connection, target_connection)

            await _watch_transfer(move, sending, receiving, run)
    except (libvirt.libvirtError, OpenQrmError, ConnectionError) as error:
        return error
    except asyncio.CancelledError:
        # Out of time. The connections are cut, which ends the migration; make sure of it, then clear up.
        await asyncio.shield(_abandon(move, moves))
        raise
    return None


def _is_taken(failure: BaseException) -> bool:
    """Whether the target has a domain of that name by now, although it had none before."""
    return isinstance(failure, libvirt.libvirtError) and "is already active" in str(failure)


async def _cleared_late(move: Move) -> bool:
    """Clear away what a migration that was given up brought to the target only now; False if it must not be."""
    side, _places = await _judge(move)
    if side is not RunsOn.SOURCE:
        return False
    try:
        await _clear_target(move)
    except OpenQrmError as error:
        _log.warning("could not clear up before %s: %s", move.doing, error)
        return False
    return True


async def _watch_transfer(move: Move, sending: Session, receiving: Session, transfer: Callable[[Any], None]) -> None:
    """Run the transfer in its thread, report how far it is, and abort it when it is to be cancelled."""
    task = asyncio.ensure_future(sending.run(transfer, None))
    clock = move.source.clock
    polls = best = 0
    moved, moved_at = -1, clock.monotonic()
    stuck = False
    try:
        while not task.done():
            pause = asyncio.ensure_future(move.source.clock.sleep(_POLL_SECONDS))
            await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
            if task.done():
                break
            statistics = await _statistics(move)
            best = max(best, percent_of(statistics) or 0)
            await move.work.progress(best, "moving memory and disks")
            if statistics and moved_bytes(statistics) != moved:
                moved, moved_at = moved_bytes(statistics), clock.monotonic()
            # QEMU itself would wait a quarter of an hour for a target that fell silent.
            stuck = stuck or receiving.lost or clock.monotonic() - moved_at > _STALLED_SECONDS
            if stuck or move.work.cancelled.is_set():
                if polls % _ABORT_AGAIN_POLLS == 0:
                    await _abort_job(move)
                polls += 1
        await task
    finally:
        if not task.done():
            task.cancel()


async def _statistics(move: Move) -> dict[str, object]:
    def read(connection: Any) -> dict[str, object]:
        try:
            return dict(need(connection, move.partition).domain.jobStats())
        except libvirt.libvirtError:
            return {}

    try:
        return await move.source.call("read the migration's progress", read)
    except OpenQrmError:  # the transfer itself will say what is wrong
        return {}


async def _abort_job(move: Move) -> None:
    def abort(connection: Any) -> None:
        sight = look(connection, move.partition.id)
        if sight is not None:
            with contextlib.suppress(libvirt.libvirtError):
                sight.domain.abortJob()

    with contextlib.suppress(OpenQrmError):
        await move.source.call("abort the migration", abort)


async def _abandon(move: Move, moves: Moves) -> None:
    await _abort_job(move)
    try:
        side, _places = await _judge(move)
        if side is RunsOn.SOURCE:
            await _clear_target(move)
            await _clear_target_storage(move, moves)
    except OpenQrmError as error:
        _log.warning("could not clear up after %s: %s", move.doing, error)


async def _place(link: HostLink, partition: PartitionDefinition) -> Place:
    try:
        return place_of(await _sight(link, partition))
    except OpenQrmError as error:
        _log.debug("cannot see %s on host %s: %s", called(partition), link.host.name, error)
        return Place.UNREACHABLE


async def _judge(move: Move) -> tuple[RunsOn, tuple[Place, Place]]:
    """Ask both hosts until they show clearly who has it, or the time is over."""
    end = move.source.clock.monotonic() + _SETTLE_SECONDS
    while True:
        places = await _place(move.source, move.partition), await _place(move.target, move.partition)
        side = who_has_it(*places)
        settled = side is not RunsOn.UNKNOWN and Place.INCOMING not in places
        if settled or move.source.clock.monotonic() > end:
            return side, places
        await move.source.clock.sleep(_POLL_SECONDS * 5)


async def _settle(move: Move, moves: Moves, failure: BaseException, paused: bool) -> None:
    """After a failure: find out who has the partition, and bring that one back to where it was."""
    side, places = await _judge(move)
    if isinstance(failure, libvirt.libvirtError):
        reason = f"Could not {move.doing}: {str(failure).rstrip('.')}"
    else:
        reason = str(failure)
    if side is RunsOn.TARGET:
        _log.warning("%s went through although it was reported as failed: %s", move.doing, reason)
        await _finish(move)
        return
    if places == (Place.ACTIVE, Place.UNREACHABLE):
        # What arrived there stands still: only the last step, which never happened, lets it go on.
        raise MigrationError(
            f"{reason}. The partition goes on as before on host '{move.source.host.name}'. Host "
            f"'{move.target.host.name}' does not answer; a copy that stands still may be left there.",
            RunsOn.SOURCE,
        ) from failure
    if side is not RunsOn.SOURCE:
        raise MigrationError(f"{reason}. {_contradiction(move, *places)}", side) from failure
    try:
        await _clear_target(move)
        await _clear_target_storage(move, moves)
        if places[0] is Place.SPENT and not paused:
            await move.source.call(
                f"let {called(move.partition)} go on",
                lambda connection: need(connection, move.partition).domain.resume(),
            )
    except MigrationError:
        raise
    except OpenQrmError as error:
        reason = f"{reason}. Clearing up did not end either: {error}"
    if move.work.cancelled.is_set():
        raise CancelledError(
            f"The migration of {called(move.partition)} was cancelled; "
            f"it is on host '{move.source.host.name}' as before."
        ) from failure
    state = "stopped meanwhile" if places[0] is Place.STOPPED else "as before"
    raise MigrationError(
        f"{reason}. The partition is on host '{move.source.host.name}' {state}.", RunsOn.SOURCE
    ) from failure


# -------------------------------------------------------------------------------------------------- the last word


async def _finish(move: Move) -> None:
    """The target has it, complete: prove that the source does not run it, let it go on, clear the source."""
    partition = move.partition

    def leave(connection: Any) -> Place:
        """The source gives up a copy that cannot run any more."""
        sight = look(connection, partition.id)
        place = place_of(sight)
        if sight is None or place is Place.ACTIVE:
            return place
        if place is Place.SPENT:
            sight.domain.destroy()
        if sight.persistent:
            undefine(sight.domain)
        return Place.ABSENT

    def release(connection: Any) -> None:
        sight = need(connection, partition)
        marks = sight.marks or Marks(partition.epoch)
        if marks.held == HELD_RUNNING and place_of(sight) is Place.HELD:
            sight.domain.resume()
        write_marks(sight, Marks(partition.epoch, marks.making, None, marks.guest_vcpus))

    try:
        place = await move.source.call(f"give up {called(partition)}", leave, DESTROY_SECONDS)
    except OpenQrmError as error:
        raise MigrationError(
            f"{called(partition)} arrived on host '{move.target.host.name}' and stands still there, because host "
            f"'{move.source.host.name}' could not be asked whether it let go of it: {error}. Repeat the migration once "
            "it answers, or start the partition once that host is known to be off.",
            RunsOn.UNKNOWN,
        ) from error
    if place is Place.ACTIVE:
        raise MigrationError(_contradiction(move, place, Place.HELD), RunsOn.UNKNOWN)
    try:
        await move.target.call(f"let {called(partition)} go on", release)
        found = await _sight(move.target, partition)
    except OpenQrmError as error:
        raise MigrationError(
            f"{called(partition)} left host '{move.source.host.name}', but its new host cannot be asked: {error}. "
            "Repeat the migration.",
            RunsOn.TARGET,
        ) from error
    if found is None or found.marks is None or found.marks.epoch != partition.epoch:
        raise MigrationError(
            f"{called(partition)} left host '{move.source.host.name}' and is not on '{move.target.host.name}' as it "
            "should be. Look at both hosts.",
            RunsOn.UNKNOWN,
        )
    await _clear_source(move, found)


async def _clear_source(move: Move, found: Sight) -> None:
    """Delete the source's volumes, and forget its passwords; what fails here is left behind, not undone."""
    source, target = move.source.host.connection, move.target.host.connection
    try:
        moves = plan_moves(move.partition, parse_xml(found.xml), source, target)
        await delete_volumes(move.source, move.partition, moves.copied)
        await move.source.call("forget passwords", lambda connection: forget_secrets(connection, move.partition.disks))
    except OpenQrmError as error:
        _log.warning("something of %s stays on host %s: %s", called(move.partition), move.source.host.name, error)


# ------------------------------------------------------------------------------------------------ stopped partitions


async def _move_stopped(move: Move, source: Sight, moves: Moves) -> None:
    partition = move.partition
    if source.config_xml is None:
        raise MigrationError(f"{called(partition)} has no definition that could be moved.", RunsOn.SOURCE)
    try:
        paths = await _paths_on_target(move, source, moves)
        await move.target.call("store passwords", lambda connection: ensure_secrets(connection, partition.disks))
        making = frozenset(str(disk.id) for disk in moves.copied)
        marks = replace(_target_marks(move, source, None), making=making, guest_vcpus=None)
        xml = for_target(source.config_xml, marks, move.nics, paths, side_of(move.target.host.connection))
        await move.target.call(f"define {called(partition)}", lambda connection: connection.defineXML(xml))
        for number, disk in enumerate(moves.copied):
            await _copy_volume(move, volume_of(partition, disk), number, len(moves.copied))
        await move.target.call(
            f"mark {called(partition)}",
            lambda connection: write_marks(need(connection, partition), replace(marks, making=frozenset())),
        )
        await move.source.call(f"give up {called(partition)}", lambda connection: _give_up_stopped(connection, move))
    except (libvirt.libvirtError, OpenQrmError, OSError) as error:
        await _settle(move, moves, error, paused=True)
        return
    except asyncio.CancelledError:
        await asyncio.shield(_abandon(move, moves))
        raise
    await _finish(move)


def _give_up_stopped(connection: Any, move: Move) -> None:
    sight = look(connection, move.partition.id)
    if sight is None:
        return
    if sight.active:
        raise MigrationError(f"{called(move.partition)} was started while it was being moved.", RunsOn.SOURCE)
    undefine(sight.domain)


async def _copy_volume(move: Move, name: str, number: int, count: int) -> None:
    copy = VolumeCopy(name, move.source.host.connection.storage_path, move.target.host.connection.storage_path)
    async with move.source.dedicated() as sending, move.target.dedicated() as receiving:

        def run(connection: Any) -> None:
            with receiving.held() as target_connection:
                copy.run(connection, target_connection)

        task = asyncio.ensure_future(sending.run(run, None))
        try:
            while not task.done():
                pause = asyncio.ensure_future(move.source.clock.sleep(_POLL_SECONDS))
                await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
                if move.work.cancelled.is_set():
                    copy.stop()
                share = copy.copied / copy.total if copy.total else 0.0
                percent = int(95 * (number + min(share, 1.0)) / count)
                await move.work.progress(percent, f"copying disk {number + 1} of {count}")
            await task
        finally:
            copy.stop()
            if not task.done():
                task.cancel()
