"""The scenarios' language: a line of text becomes what it means for a control plane. The words are in README.md."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from support.control_plane import PATIENCE_SECONDS, ControlPlane

from openqrm.contracts.host import ActivateHost, EnrolHost, HostConnection, MaintainHost, RemoveHost
from openqrm.contracts.message import Command
from openqrm.contracts.operation import CancelOperation, ListOperations
from openqrm.contracts.partition import (
    AdoptPartition,
    CreatePartition,
    DeletePartition,
    MigratePartition,
    PausePartition,
    RebootPartition,
    ResizePartition,
    ShutdownPartition,
    StartPartition,
    StopPartition,
    UnpausePartition,
)
from openqrm.contracts.states import OperationState

PARTITION_VERBS: dict[str, type[Command]] = {
    "start": StartPartition,
    "stop": StopPartition,
    "shutdown": ShutdownPartition,
    "reboot": RebootPartition,
    "pause": PausePartition,
    "unpause": UnpausePartition,
    "delete": DeletePartition,
}
HOST_VERBS: dict[str, type[Command]] = {"maintain": MaintainHost, "activate": ActivateHost, "remove": RemoveHost}


@dataclass(frozen=True)
class Line:
    """One command of a scenario."""

    verb: str
    words: tuple[str, ...]
    """The names that it is about."""
    flags: frozenset[str]
    settings: dict[str, str]
    in_background: bool

    @classmethod
    def parse(cls, text: str) -> "Line":
        """Read one line; names with spaces stand in quotes."""
        verb, *rest = shlex.split(text)
        in_background = rest[-1:] == ["&"]
        rest = rest[:-1] if in_background else rest
        settings = dict(word.split("=", 1) for word in rest if "=" in word and "!" not in word)
        plain = [word for word in rest if "=" not in word or "!" in word]
        flags = frozenset(word for word in plain if word in FLAGS)
        return cls(verb, tuple(word for word in plain if word not in flags), flags, settings, in_background)


FLAGS = frozenset({"start", "wait", "evacuate", "force"})


@dataclass
class Stage:
    """A control plane that a scenario plays on."""

    plane: ControlPlane
    hosts: dict[str, HostConnection] = field(default_factory=dict)
    """Host name to how it is reached."""
    strangers: dict[str, UUID] = field(default_factory=dict)
    """Name to the id under which it is seen."""

    async def play(self, line: Line) -> None:
        """Do what a line says, and await the end of its operation unless it goes on in the background."""
        command = self._command(line)
        if command is not None:
            await self.plane.client.publish(command)
            if line.in_background:
                await self.plane.operation(command.operation_id, "running", "queued")
            elif "wait" in line.flags:
                await self.plane.operation(command.operation_id, "waiting", "succeeded")
            else:
                await self.plane.end_of(command.operation_id)
            return
        happenings: dict[str, Callable[[Line], Awaitable[None]]] = {
            "cancel": self._cancel,
            "lose": self._lose,
            "find": self._find,
            "crash": self._crash,
            "stranger": self._stranger,
            "expect": self._expect,
        }
        if line.verb not in happenings:
            raise ValueError(f"no scenario knows the word {line.verb}; README.md lists them")
        await happenings[line.verb](line)

    def _command(self, line: Line) -> Command | None:
        given = line.settings
        if line.verb == "host":
            return self._enrolment(line)
        if line.verb == "create":
            return CreatePartition(
                name=line.words[0],
                technology="fake",
                host=given.get("host"),
                memory_mib=int(given.get("memory", "512")),
                vcpus=int(given.get("vcpus", "1")),
                host_tags=_tags(given),
                start="start" in line.flags,
                wait_for_capacity="wait" in line.flags,
                on_crash=given.get("on-crash", "restart"),
            )
        if line.verb == "resize":
            return ResizePartition(
                partition=line.words[0],
                memory_mib=int(given["memory"]) if "memory" in given else None,
                vcpus=int(given["vcpus"]) if "vcpus" in given else None,
            )
        if line.verb == "migrate":
            return MigratePartition(
                partition=line.words[0], host=given.get("to"), live=given.get("live", "yes") == "yes"
            )
        if line.verb == "adopt":
            host, name = line.words
            return AdoptPartition(host=host, partition_id=self.strangers[name], name=name)
        if line.verb in PARTITION_VERBS:
            options: dict[str, Any] = {"force": True} if "force" in line.flags else {}
            return PARTITION_VERBS[line.verb](partition=line.words[0], **options)
        if line.verb in HOST_VERBS:
            options = dict.fromkeys(line.flags, True)
            return HOST_VERBS[line.verb](host=line.words[0], **options)
        return None

    def _enrolment(self, line: Line) -> EnrolHost:
        name, given = line.words[0], line.settings
        uri = f"fake://{name}?cpus={given.get('cpus', '8')}&memory_mib={given.get('memory', '16384')}"
        self.hosts[name] = HostConnection(uri=uri)
        return EnrolHost(
            name=name,
            technology="fake",
            connection=self.hosts[name],
            tags=_tags(given),
            memory_reserve_mib=0,
        )

    async def _cancel(self, line: Line) -> None:
        partition = await self.plane.partition(line.words[0])
        page = await self.plane.ask(ListOperations(target_id=partition.id))
        open_states = (OperationState.QUEUED, OperationState.WAITING, OperationState.RUNNING)
        target = next(operation for operation in page.items if operation.state in open_states)
        await self.plane.run(CancelOperation(target_operation_id=target.id))
        await self.plane.end_of(target.id)

    async def _lose(self, line: Line) -> None:
        self.plane.world.host(self.hosts[line.words[0]]).lose()

    async def _find(self, line: Line) -> None:
        self.plane.world.host(self.hosts[line.words[0]]).find()

    async def _crash(self, line: Line) -> None:
        partition = await self.plane.partition(line.words[0])
        assert partition.host_name is not None
        self.plane.world.host(self.hosts[partition.host_name]).crash(partition.id)

    async def _stranger(self, line: Line) -> None:
        host, name = line.words
        self.strangers[name] = self.plane.world.host(self.hosts[host]).add_stranger(name)
        await self.plane.event("partition.discovered")

    async def _expect(self, line: Line) -> None:
        name, state = line.words
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._state_of(name) != state:
                await self.plane.clock.sleep(0.1)

    async def _state_of(self, name: str) -> str:
        if name in self.hosts:
            return (await self.plane.host(name)).state
        partition = await self.plane.partition(name)
        return "moving" if partition.target_host_id else partition.state


def _tags(given: dict[str, str]) -> tuple[str, ...]:
    return tuple(given["tags"].split(",")) if "tags" in given else ()
