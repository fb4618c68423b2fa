"""One transaction: what is read, changed, and told to the world, committed together or not at all."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Executable

from openqrm.bus.envelope import make_headers
from openqrm.contracts.errors import InvalidError
from openqrm.contracts.host import HostEvent
from openqrm.contracts.message import Event, Message, address
from openqrm.contracts.operation import OperationEvent
from openqrm.contracts.partition import PartitionEvent
from openqrm.inventory.adapters.hosts import Hosts
from openqrm.inventory.adapters.macs import Macs
from openqrm.inventory.adapters.operations import Operations
from openqrm.inventory.adapters.partitions import Partitions, read_networks
from openqrm.inventory.adapters.writes import Write, Writes
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.domain.partition import Network, Partition
from openqrm.persistence.connection import Connection
from openqrm.persistence.inbox import NOTE, NOTE_ALL
from openqrm.persistence.outbox import WRITE, Outgoing, outbox_values

SERVICE = "inventory"
LARGEST_BODY = 1_000_000
"""NATS takes 1 MiB unless told otherwise; this leaves room for the headers."""


class AlreadyHandledError(Exception):
    """Another delivery of the same message was faster."""


@dataclass
class Transaction:
    """The repositories on one connection, and the messages to be sent once it is committed."""

    connection: Connection
    now: datetime
    partitions: Partitions = field(init=False)
    hosts: Hosts = field(init=False)
    operations: Operations = field(init=False)
    macs: Macs = field(init=False)
    outgoing: list[Outgoing] = field(default_factory=list)
    after_commit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _writes: Writes = field(init=False)
    _networks: dict[UUID, Network] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._writes = Writes(self.connection)
        self.partitions = Partitions(self.connection, self._writes)
        self.hosts = Hosts(self.connection)
        self.operations = Operations(self.connection, self._writes)
        self.macs = Macs(self.connection, self.now)

    async def execute(self, statement: Executable) -> CursorResult[Any]:
        """Run a statement that was built for this call, after what waits to be written."""
        await self._writes.flush()
        return await self.connection.execute(statement)

    def note_handled(self, message_id: str) -> None:
        """Remember a message as handled, with the other writes. AlreadyHandledError then if it was before."""
        note = Write(NOTE, {"message_id": message_id}, AlreadyHandledError)
        self._writes.put(message_id, note, lambda: [note])

    async def note_all_handled(self, message_ids: Collection[str]) -> set[str]:
        """Remember messages as handled, now; returns those that were not before."""
        rows = await self.connection.all(NOTE_ALL, message_ids=sorted(message_ids))
        return {row["message_id"] for row in rows}

    async def finish(self) -> None:
        """Write what waits, and the messages."""
        if self.outgoing:
            outgoing = Write(WRITE, outbox_values(self.outgoing))
            self._writes.put("outbox", outgoing, lambda: [outgoing])
        await self._writes.flush()

    async def networks(self, network_ids: Iterable[UUID]) -> dict[UUID, Network]:
        """The networks with the given ids, read once per transaction."""
        self._networks |= await read_networks(self.connection, set(network_ids) - self._networks.keys())
        return self._networks

    async def networks_of(self, partition: Partition) -> dict[UUID, Network]:
        """The networks that a partition's NICs are mapped to."""
        return await self.networks(nic.network_id for nic in partition.nics)

    def send(self, message: Message, about: UUID, first: bool = False) -> None:
        """Publish a message after the commit, in order with the others about the same thing; `first`: before all.

        Raises InvalidError when it would be too large for the bus, so that nothing is done that could not be told.
        """
        body = message.model_dump_json().encode()
        if len(body) > LARGEST_BODY:
            raise InvalidError(
                f"This makes a message of {len(body)} bytes ({message.subject}), and the bus takes {LARGEST_BODY}. "
                "Name fewer things in it."
            )
        outgoing = Outgoing(
            key=str(about),
            subject=address(message),
            headers=make_headers(message, SERVICE, self.now, about),
            body=body,
            history=isinstance(message, Event),
        )
        self.outgoing.insert(0 if first else len(self.outgoing), outgoing)

    async def tell_partition(
        self, event: type[PartitionEvent], partition: Partition, operation_id: UUID | None = None, reason: str = ""
    ) -> None:
        """Tell a fact about a partition; its revision goes up by one. Save it afterwards."""
        partition.revision += 1
        partition.updated_at = self.now
        view = partition.view(await self.networks_of(partition))
        self.send(event(partition=view, operation_id=operation_id, reason=reason), partition.id)

    def tell_host(self, event: type[HostEvent], host: Host, operation_id: UUID | None = None, reason: str = "") -> None:
        """Tell a fact about a host; its revision goes up by one. Save it afterwards."""
        host.revision += 1
        host.updated_at = self.now
        self.send(event(host=host.view(), operation_id=operation_id, reason=reason), host.id)

    def tell_operation(self, event: type[OperationEvent], operation: Operation, first: bool = False) -> None:
        """Tell a fact about an operation; its revision goes up by one. Save it afterwards. `first`: see `send`."""
        operation.revision += 1
        self.send(event(operation=operation.view()), operation.id, first)
