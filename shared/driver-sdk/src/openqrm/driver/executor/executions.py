"""Carries out routed commands in turn: each ends in exactly one outcome, or goes back to the queue."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

import structlog

from openqrm.bus.bus import Bus
from openqrm.bus.delivery import LONGEST_DELAY_SECONDS, MAX_TEMPORARY, Delivery
from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import CancelledError, HostUnreachableError, TemporaryError, UnsupportedError
from openqrm.contracts.execution import (
    ExecuteCancelOperation,
    ExecuteEnrolHost,
    ExecuteMigratePartition,
    ExecutionFailed,
    HostExecution,
    PartitionExecution,
)
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.technology import Manifest
from openqrm.driver.capabilities import Driver, Host, Work
from openqrm.driver.executor.attempts import Attempts, cancelled_from_within
from openqrm.driver.executor.cancelling import stop_if_cancelled
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.epochs import EpochGuard
from openqrm.driver.executor.gates import Gate, SetAside
from openqrm.driver.executor.hosts import Hosts
from openqrm.driver.executor.outcomes import Outcome, Outcomes
from openqrm.driver.executor.progress import Progress
from openqrm.driver.executor.settings import ExecutorSettings
from openqrm.driver.executor.verbs import Call, Execution, capability_of, carry_out, subject_verb_of, timeout_of
from openqrm.driver.steps import traced_steps
from openqrm.telemetry import metrics

SLOWER_AFTER = 20
"""Each so many deliveries a command that is set aside again waits longer by once its delay."""
LAST_DELIVERY = MAX_TEMPORARY - 10
"""With the growing delays this is hours. A little later the bus would make a dead letter of it, and no outcome."""
FIRST_LOOK_SECONDS = 0.25
"""After this a command for a host that is not connected is looked at again; doubles up to the setting."""
CANCELLED_KEPT = 1000
"""Operations whose cancellation is remembered, for a migration that was set aside when it came."""
CANCEL_DELIVERIES = 5
CANCEL_RETRY_SECONDS = 0.25
"""A cancellation that finds nothing running goes round a few times: another replica may have the migration."""


@dataclass(eq=False)
class _Running:
    """One command in hand, waiting for its turn or being carried out."""

    command: Execution
    delivery: Delivery
    work: Work
    task: asyncio.Task[None] | None = None
    handed_back: bool = False


class Executions:
    """What is being carried out, over all hosts."""

    def __init__(
        self,
        driver: Driver,
        manifest: Manifest,
        bus: Bus,
        clock: Clock,
        settings: ExecutorSettings,
        hosts: Hosts,
        deadlines: Deadlines,
    ) -> None:
        self._driver = driver
        self._manifest = manifest
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._hosts = hosts
        self._deadlines = deadlines
        self._attempts = Attempts(clock, deadlines, settings.retry_limit, settings.cancel_grace)
        self._outcomes = Outcomes(driver, bus, clock, hosts, deadlines)
        self._guard = EpochGuard(driver, bus, clock, settings.set_aside)
        waiting = settings.waiting_per_host, settings.concurrency // 2, settings.set_aside
        self._gate = Gate(settings.executions_per_host, *waiting)
        self._migration_gate = Gate(settings.migrations_per_host, *waiting)
        self._running: set[_Running] = set()
        self._cancelled: OrderedDict[UUID, None] = OrderedDict()
        self._stopping = False
        self._started_at = clock.now()
        self._log = structlog.get_logger(service=bus.service)

    # -------------------------------------------------------------------------------------------- from the bus

    async def execute(self, command: Execution, delivery: Delivery) -> None:
        """Carry out one command and publish its outcome.

        Raises TemporaryError when it is to come again: its host is busy, the executor stops, the bus took no outcome.
        """
        progress = Progress(self._bus, self._clock, command.operation_id)
        running = _Running(command, delivery, Work(command.operation_id, progress.report))
        if isinstance(command, ExecuteMigratePartition) and command.operation_id in self._cancelled:
            running.work.cancelled.set()
        self._running.add(running)
        try:
            outcome = await self._outcome(running)
            await progress.finish()
            await self._outcomes.publish(outcome)
        finally:
            self._running.discard(running)
        if isinstance(command, ExecuteMigratePartition) and isinstance(outcome, ExecutionFailed):
            self._show_both(command)

    def _show_both(self, command: ExecuteMigratePartition) -> None:
        """What either host shows after the report settles who has the partition; nothing older counts."""
        for host_id in (command.host_id, command.target_host_id):
            if supervisor := self._hosts.get(host_id):
                supervisor.read_anew()

    async def cancel(self, command: ExecuteCancelOperation, delivery: Delivery) -> None:
        """Ask a running migration to end; when none runs here or anywhere, it has ended already and all is well."""
        self._cancelled[command.operation_id] = None
        while len(self._cancelled) > CANCELLED_KEPT:
            self._cancelled.popitem(last=False)
        found = [running for running in self._running if running.command.operation_id == command.operation_id]
        for running in found:
            running.work.cancelled.set()
        if not found and delivery.deliveries < CANCEL_DELIVERIES:
            raise SetAside("Not running here; perhaps in another replica.", retry_after=CANCEL_RETRY_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Take nothing more; let what runs finish for so long, then hand it back to the queue."""
        self._stopping = True
        tasks = {running.task for running in self._running if running.task}
        if tasks and seconds > 0:
            try:
                with self._deadlines.limit(seconds):
                    await asyncio.wait(tasks)
            except TimeoutError:
                self._log.warning("executions are handed back to the queue", count=len(self._running))
        for running in self._running:
            running.handed_back = True
            if running.task:
                running.task.cancel()

    # -------------------------------------------------------------------------------------------- in turn

    async def _outcome(self, running: _Running) -> Outcome:
        command = running.command
        try:
            call, observed = await self._in_turn(running)
        except SetAside as error:
            return await self._again_or_never(running, error)
        except Exception as error:  # noqa: BLE001 - every other end is an outcome
            if isinstance(command, ExecuteEnrolHost) and self._hosts.get(command.host_id) is None:
                await self._driver.disconnect(command.host_id)
            return await self._outcomes.failure(command, self._name_of_host(command), error)
        if isinstance(command, HostExecution) and (supervisor := self._hosts.get(command.host_id)):
            supervisor.wake()  # it may be waiting to connect to what is reachable now
        return self._outcomes.success(command, observed, call.facts, call.result)

    async def _again_or_never(self, running: _Running, error: SetAside) -> Outcome:
        """Raise SetAside with a delay that grows with the deliveries; the last one ends in an outcome instead."""
        deliveries = running.delivery.deliveries
        if deliveries >= LAST_DELIVERY and not self._stopping:
            name = self._name_of_host(running.command)
            gave_up = TemporaryError(f"After {deliveries} attempts: {error.message} Nothing was done. Ask again.")
            return await self._outcomes.failure(running.command, name, gave_up)
        delay = (error.retry_after or self._settings.set_aside) * (1 + deliveries / SLOWER_AFTER)
        raise SetAside(error.message, retry_after=min(delay, LONGEST_DELAY_SECONDS)) from error

    async def _in_turn(self, running: _Running) -> tuple[Call, ObservedPartition | None]:
        command = running.command
        self._check_capability(command)
        self._hosts_of(running)
        async with AsyncExitStack() as turn:
            if self._stopping:
                self._hand_back()
            if isinstance(command, ExecuteMigratePartition):
                await turn.enter_async_context(self._migration_gate.enter(command.host_id))
                # Nobody waits for a second gate while holding a first one, so nothing can block in a circle.
                await turn.enter_async_context(self._migration_gate.enter(command.target_host_id, may_wait=False))
            else:
                await turn.enter_async_context(self._gate.enter(command.host_id))
            if self._stopping:
                self._hand_back()
            if running.work.cancelled.is_set():
                raise CancelledError(f"{subject_verb_of(type(command))} was cancelled before it began.")
            host, target = self._hosts_of(running)  # again: it may have been lost while the command waited
            call = Call(self._driver, command, host, target, running.work)
            with self._measured(call):
                await self._carry_out(running, call)
                return call, await self._read_back(call)

    def _hand_back(self) -> NoReturn:
        raise SetAside("The executor is stopping.", retry_after=self._settings.set_aside)

    def _check_capability(self, command: Execution) -> None:
        capability = capability_of(type(command))
        if capability is not None and capability not in self._manifest.capabilities:
            reason = self._manifest.unsupported.get(capability, "its driver does not declare it")
            raise UnsupportedError(
                f"{self._manifest.title} cannot do {subject_verb_of(type(command))} ({capability}): {reason}"
            )

    def _hosts_of(self, running: _Running) -> tuple[Host, Host | None]:
        command = running.command
        if isinstance(command, HostExecution):  # brings its connection along
            return Host(command.host_id, command.host_name, command.connection), None
        host = self._connected(command.host_id, running.delivery)
        if isinstance(command, ExecuteMigratePartition):
            return host, self._connected(command.target_host_id, running.delivery)
        return host, None

    def _connected(self, host_id: UUID, delivery: Delivery) -> Host:
        supervisor = self._hosts.get(host_id)
        if supervisor and supervisor.is_connected:
            return supervisor.host
        name = supervisor.host.name if supervisor else str(host_id)
        reason = supervisor.reason if supervisor else "this executor does not know it"
        now = self._clock.now()
        since = delivery.published_at if delivery.published_at <= now else self._started_at  # else NATS's clock differs
        waited = now - max(since, self._started_at)
        if waited.total_seconds() < self._settings.unreachable_limit:
            soon = FIRST_LOOK_SECONDS * 2.0 ** min(delivery.deliveries - 1, 10)  # often it is just being connected
            raise SetAside(f"Host {name} is not connected: {reason}.", retry_after=min(soon, self._settings.set_aside))
        raise HostUnreachableError(
            f"Host {name} is not connected: {reason}. Nothing was done. Check the host and its address, then ask again."
        )

    def _name_of_host(self, command: Execution) -> str:
        if isinstance(command, HostExecution):
            return command.host_name
        supervisor = self._hosts.get(command.host_id)
        return supervisor.host.name if supervisor else str(command.host_id)

    @contextmanager
    def _measured(self, call: Call) -> Iterator[None]:
        attributes = {"host": call.host.name, "host_id": str(call.host.id)}
        if isinstance(call.command, PartitionExecution):
            attributes |= {"partition_id": str(call.command.partition.id), "epoch": str(call.command.partition.epoch)}
        gauge = metrics.EXECUTIONS_RUNNING.labels(self._bus.service)
        gauge.inc()
        try:
            name = f"driver {subject_verb_of(type(call.command))}"
            with traced_steps(self._bus.tracing), self._bus.tracing.span(name, attributes=attributes):
                yield
        finally:
            gauge.dec()

    # -------------------------------------------------------------------------------------------- the driver's call

    async def _carry_out(self, running: _Running, call: Call) -> None:
        async def attempt() -> None:
            if isinstance(call.command, PartitionExecution):
                await self._guard.check(call.command, running.delivery, call.host, call.target)
                stop_if_cancelled()  # a command that was given up must not begin now
            await carry_out(call)

        # A task of its own can be cancelled and, when it ignores that, left behind.
        name = f"{subject_verb_of(type(call.command))} on host {call.host.name}"
        running.task = asyncio.create_task(self._attempts.persist(attempt), name=name)
        done = await self._attempts.within(timeout_of(call.command, self._settings), running.task, name)
        if not done:
            if running.handed_back:
                self._hand_back()
            raise cancelled_from_within(name)

    async def _read_back(self, call: Call) -> ObservedPartition | None:
        command = call.command
        if not isinstance(command, PartitionExecution):
            return None
        host = call.target or call.host
        partition_id = command.partition.id

        async def read() -> ObservedPartition | None:
            with self._deadlines.limit(self._settings.observe_timeout):
                return await self._driver.observe_partition(host, partition_id)

        observed = await self._attempts.persist(read)
        self._hosts.note(host.id, partition_id, observed)
        if call.target:
            self._hosts.note(call.host.id, partition_id, None)
        return observed
