"""What a driver is asked to do for each routed command.

The method has the verb's name: partition.attach_nic is ExecuteAttachNic is `Nics.attach_nic`, and the command's own
fields are its arguments. Only verbs that are more than one method have a function here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from openqrm.contracts.errors import TimedOutError
from openqrm.contracts.execution import (
    ExecuteAdoptPartition,
    ExecuteCreatePartition,
    ExecuteEnrolHost,
    ExecuteMigratePartition,
    ExecutePrepareHost,
    ExecuteShutdownPartition,
    HostExecution,
    PartitionExecution,
)
from openqrm.contracts.host import HostFacts
from openqrm.contracts.message import RoutedCommand
from openqrm.contracts.technology import Capability
from openqrm.driver.capabilities import Driver, Host, HostPreparation, Migration, Work
from openqrm.driver.executor.cancelling import stop_if_cancelled
from openqrm.driver.executor.settings import ExecutorSettings
from openqrm.driver.manifest import PROTOCOLS

Execution = PartitionExecution | HostExecution

METHODS = {"adopt": "mark", "enrol": "connect"}
"""Verbs whose driver method has another name, because it serves more than this verb."""

_BASE_FIELDS = set(PartitionExecution.model_fields)


@dataclass
class Call:
    """One execution as a verb's function is given it; `facts` and `result` become part of the outcome."""

    driver: Driver
    command: Execution
    host: Host
    target: Host | None
    """Of a migration."""
    work: Work
    facts: HostFacts | None = None
    result: dict[str, Any] = field(default_factory=dict)


def verb_of(command: type[RoutedCommand]) -> str:
    """The second word of its subject, such as attach_nic."""
    return command.subject.split(".")[1]


def subject_verb_of(command: type[RoutedCommand]) -> str:
    """The subject without technology and host, such as partition.attach_nic."""
    return ".".join(command.subject.split(".")[:2])


def method_of(command: type[RoutedCommand]) -> str:
    """The name of the driver's method."""
    verb = verb_of(command)
    return METHODS.get(verb, verb)


def capability_of(command: type[RoutedCommand]) -> Capability | None:
    """The capability that a driver needs for it; None when every driver can."""
    method = method_of(command)
    return next((capability for capability, protocol in PROTOCOLS.items() if hasattr(protocol, method)), None)


def arguments_of(command: type[RoutedCommand]) -> tuple[str, ...]:
    """The command's own fields, in order, which are the method's arguments after host and partition."""
    return tuple(name for name in command.model_fields if name not in _BASE_FIELDS)


def timeout_of(command: Execution, settings: ExecutorSettings) -> float:
    """Seconds that the whole execution may take."""
    if isinstance(command, ExecuteShutdownPartition):
        return command.timeout_seconds + settings.shutdown_margin
    limits = {
        "create": settings.create_timeout,
        "delete": settings.delete_timeout,
        "migrate": settings.migrate_timeout,
        "attach_disk": settings.disk_timeout,
        "detach_disk": settings.disk_timeout,
        "prepare": settings.prepare_timeout,
    }
    return limits.get(verb_of(type(command)), settings.default_timeout)


async def carry_out(call: Call) -> None:
    """Do what the command says. Raises what the driver raises."""
    special = _SPECIAL.get(type(call.command))
    if special:
        await special(call)
        return
    command = cast(PartitionExecution, call.command)
    arguments = {name: getattr(command, name) for name in arguments_of(type(command))}
    method: Callable[..., Awaitable[None]] = getattr(call.driver, method_of(type(command)))
    await method(call.host, command.partition, **arguments, work=call.work)


async def _create(call: Call) -> None:
    command = cast(ExecuteCreatePartition, call.command)
    await call.driver.create(call.host, command.partition, call.work)
    if command.start:
        stop_if_cancelled()
        await call.driver.start(call.host, command.partition, call.work)


async def _shutdown(call: Call) -> None:
    command = cast(ExecuteShutdownPartition, call.command)
    try:
        await call.driver.shutdown(call.host, command.partition, command.timeout_seconds, call.work)
    except TimedOutError:
        if not command.force:
            raise
        stop_if_cancelled()
        call.result["forced"] = True
        await call.driver.stop(call.host, command.partition, call.work)


async def _migrate(call: Call) -> None:
    command = cast(ExecuteMigratePartition, call.command)
    if call.target is None:
        raise RuntimeError("a migration needs its target host")
    driver = cast(Migration, call.driver)
    await driver.migrate(
        call.host,
        call.target,
        command.partition,
        command.target_nics,
        command.live,
        command.bandwidth_mib_s,
        call.work,
    )


async def _adopt(call: Call) -> None:
    await call.driver.mark(call.host, cast(PartitionExecution, call.command).partition)


async def _enrol(call: Call) -> None:
    await call.driver.connect(call.host)
    call.facts = await call.driver.read_facts(call.host)
    call.result["partitions"] = len(await call.driver.observe(call.host))
    call.result |= {"ready": True, "reason": ""}


async def _prepare(call: Call) -> None:
    changes = await cast(HostPreparation, call.driver).prepare(call.host, call.work)
    # Kept over a repetition, in which nothing is left to change.
    call.result.setdefault("changes", []).extend(change.model_dump(mode="json") for change in changes)
    await call.driver.connect(call.host)
    call.facts = await call.driver.read_facts(call.host)


_SPECIAL: dict[type[RoutedCommand], Callable[[Call], Awaitable[None]]] = {
    ExecuteCreatePartition: _create,
    ExecuteShutdownPartition: _shutdown,
    ExecuteMigratePartition: _migrate,
    ExecuteAdoptPartition: _adopt,
    ExecuteEnrolHost: _enrol,
    ExecutePrepareHost: _prepare,
}
