"""Moves a partition between two fake hosts: copy, hand over, check. Exactly one side has it at every moment."""

import math
from dataclasses import dataclass

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import CancelledError, DriverError, OpenQrmError
from openqrm.contracts.execution import RunsOn
from openqrm.contracts.partition import NicDefinition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import MigrationError, Work
from openqrm.executor_fake.building import check_epoch, check_fits, define
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.script import parse_script
from openqrm.executor_fake.state import FakePartition, disk_of
from openqrm.executor_fake.world import FakeWorld

LEAST_STEPS = 20
LONGEST_STEP_SECONDS = 0.1
"""How soon a cancellation, a crash or a lost host is noticed."""


@dataclass(frozen=True)
class Move:
    """One migration."""

    world: FakeWorld
    clock: Clock
    source: FakeHost
    target: FakeHost
    source_path: str
    target_path: str
    partition: PartitionDefinition
    target_nics: tuple[NicDefinition, ...]
    live: bool
    bandwidth_mib_s: int | None
    work: Work

    async def carry_out(self) -> None:
        """Move it. Raises MigrationError with the side that has it, or CancelledError while the source has it."""
        check_epoch(self.source, self.partition)
        check_epoch(self.target, self.partition)
        if self._is_done():
            self._clear_source()
            return
        here = self.source.get(self.partition.id)
        if here is None:
            self._clear_target()
            raise MigrationError(
                f"{self.partition.name!r} is neither on {self.source.name} nor on {self.target.name}. Look for it "
                "before anything else.",
                RunsOn.NEITHER,
            )
        before = self._begin(here)
        try:
            await self._copy()
            await self._suffer()
            self._hand_over(before)
        except BaseException as error:  # also when the task is cancelled: the source goes on as before
            if not self._is_done():
                self._clear_target()
                self._go_on(before)
            if isinstance(error, OpenQrmError) and not isinstance(error, MigrationError | CancelledError):
                raise MigrationError(error.message, RunsOn.SOURCE) from error
            raise
        self._check(before)

    def _begin(self, here: FakePartition) -> ObservedState:
        before = here.handing_over or here.state
        try:
            check_fits(self.target, self.partition, self.target_nics)
        except DriverError as error:
            raise MigrationError(error.message, RunsOn.SOURCE) from error
        with self.source.change_partition(self.partition.id) as found:
            found.handing_over = before
            found.state = before
            if not self.live and found.runs:
                found.state, found.live = ObservedState.STOPPED, None
        with self.target.change() as content:
            arriving = define(
                self.target, content, self.partition, self.target_nics, self.target_path, with_volumes=True
            )
            arriving.state = ObservedState.INCOMING
        return before

    async def _copy(self) -> None:
        seconds = self.source.plan.migration_ms / 1000 + parse_script(self.partition.name).slow.get("migrate", 0)
        if self.bandwidth_mib_s:
            seconds = max(seconds, self.partition.memory_mib / self.bandwidth_mib_s)
        steps = max(LEAST_STEPS, math.ceil(seconds / LONGEST_STEP_SECONDS))
        for step in range(steps):
            if self.work.cancelled.is_set():
                raise CancelledError(
                    f"The migration of {self.partition.name!r} was cancelled; it is on {self.source.name}."
                )
            await self.work.progress(step * 100 // steps, "copying memory")
            await self.clock.sleep(seconds / steps)
            here = self.source.get(self.partition.id)
            if here is None or here.handing_over is None:
                raise DriverError(f"{self.partition.name!r} ended by itself during its migration. Start it again.")
            for host in (self.source, self.target):
                if not host.is_reachable:
                    raise DriverError(f"Host {host.name} was lost during the migration of {self.partition.name!r}.")
        await self.work.progress(100, "handing over")

    async def _suffer(self) -> None:
        await self.source.suffer("migrate", self.partition.id, self.partition.name)
        ends_on = parse_script(self.partition.name).migration_ends_on
        if ends_on is None:
            return
        if ends_on is RunsOn.TARGET:
            self._hand_over(self._before())
        elif ends_on is RunsOn.NEITHER:
            self._clear_target()
            self._clear_source()
        raise MigrationError(
            f"The migration of {self.partition.name!r} fails, as its name asks for. Use another name.", ends_on
        )

    def _before(self) -> ObservedState:
        here = self.source.get(self.partition.id)
        return (here and here.handing_over) or ObservedState.STOPPED

    def _hand_over(self, before: ObservedState) -> None:
        # First the source stands still, then the target takes over, last the source forgets: whoever dies in between
        # leaves a state from which the same command, sent again, goes on.
        with self.source.change_partition(self.partition.id) as leaving:
            live, starts = leaving.live, leaving.starts
            if leaving.state is ObservedState.RUNNING:
                leaving.state = ObservedState.PAUSED
        with self.target.change_partition(self.partition.id) as arrived:
            arrived.state = before
            arrived.starts = starts if self.live else starts + 1
            arrived.live = (live or arrived.size.model_copy()) if arrived.runs else None
        self.source.close_consoles(self.partition.id)
        self._clear_source()
        if before is ObservedState.RUNNING:
            self.world.began(self.target, self.partition.id)

    def _is_done(self) -> bool:
        there = self.target.get(self.partition.id)
        return there is not None and there.state is not ObservedState.INCOMING and there.epoch == self.partition.epoch

    def _go_on(self, before: ObservedState) -> None:
        with self.source.change() as content:
            found = content.partitions.get(self.partition.id)
            if found and found.handing_over is not None:  # else it ended by itself meanwhile, and stays so
                found.handing_over = None
                found.state = before
                if found.runs and found.live is None:
                    found.live = found.size.model_copy()

    def _clear_source(self) -> None:
        self._clear(self.source, self.source_path)

    def _clear_target(self) -> None:
        there = self.target.get(self.partition.id)
        if there is None or there.state is ObservedState.INCOMING:
            self._clear(self.target, self.target_path)

    def _clear(self, host: FakeHost, storage_path: str) -> None:
        with host.change() as content:
            content.partitions.pop(self.partition.id, None)
            for disk in self.partition.disks:
                made, size = disk_of(disk, self.partition.id, storage_path)
                if size is not None:
                    content.volumes.pop(made.source, None)

    def _check(self, before: ObservedState) -> None:
        here, there = self.source.get(self.partition.id), self.target.get(self.partition.id)
        if here is not None or there is None or there.state is not before:
            raise MigrationError(
                f"After its migration {self.partition.name!r} is not where it should be. Look at both hosts.",
                RunsOn.UNKNOWN,
            )
