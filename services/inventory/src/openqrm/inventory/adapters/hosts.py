"""Hosts in PostgreSQL, and the capacity that is reserved on them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, Select, cast, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from openqrm.contracts.errors import NotFoundError, TemporaryError
from openqrm.contracts.host import HostConnection, HostFacts
from openqrm.contracts.ids import is_id
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import HostState
from openqrm.inventory.adapters.tables import GONE, hosts, resources
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Reservation

_TOUCH = text(
    """
    UPDATE hosts SET last_seen_at = seen.moment
    FROM (
        SELECT h.id, s.moment
        FROM unnest(CAST(:ids AS uuid[]), CAST(:moments AS timestamptz[])) AS s(id, moment)
        JOIN hosts h ON h.id = s.id AND (
            h.last_seen_at IS NULL OR h.last_seen_at < s.moment
            OR h.last_seen_at > s.moment + interval '1 minute'  -- the clock was set back since
        )
        FOR NO KEY UPDATE OF h SKIP LOCKED
    ) AS seen
    WHERE hosts.id = seen.id
    """
)


def select_hosts() -> Select[Any]:
    """Everything that a Host is made of, by `row_to_host`."""
    return select(resources, hosts).join(hosts, hosts.c.id == resources.c.id)


def row_to_host(row: Row[Any]) -> Host:
    """A Host from a row of `select_hosts`."""
    r = row._mapping  # noqa: SLF001 - SQLAlchemy's documented name
    facts = r[hosts.c.facts]
    return Host(
        id=r[resources.c.id],
        revision=r[resources.c.revision],
        saved_revision=r[resources.c.revision],
        name=r[resources.c.name],
        technology=r[resources.c.technology],
        state=HostState(r[resources.c.state]),
        state_reason=r[hosts.c.state_reason],
        usual_state=HostState(r[hosts.c.usual_state]),
        connection=HostConnection.model_validate(r[hosts.c.connection]),
        tags=tuple(r[resources.c.tags]),
        cpu_overcommit=r[hosts.c.cpu_overcommit],
        memory_overcommit=r[hosts.c.memory_overcommit],
        memory_reserve_mib=r[hosts.c.memory_reserve_mib],
        facts=HostFacts.model_validate(facts) if facts else None,
        cpus_reserved=r[hosts.c.cpus_reserved],
        memory_reserved_mib=r[hosts.c.memory_reserved_mib],
        partitions=r[hosts.c.partitions],
        operation_id=r[resources.c.operation_id],
        last_seen_at=r[hosts.c.last_seen_at],
        created_at=r[resources.c.created_at],
        updated_at=r[resources.c.updated_at],
    )


def _resource_values(host: Host) -> dict[str, Any]:
    return {
        "name": host.name,
        "technology": host.technology,
        "state": host.state.value,
        "tags": list(host.tags),
        "memory_mib": host.facts.memory_mib if host.facts else None,
        "cpus": host.facts.cpus if host.facts else None,
        "operation_id": host.operation_id,
        "revision": host.revision,
        "updated_at": host.updated_at,
    }


def _host_values(host: Host) -> dict[str, Any]:
    # The reserved counters are left out: only `reserve` and `give_back` change them.
    return {
        "connection": host.connection.model_dump(mode="json"),
        "state_reason": host.state_reason,
        "usual_state": host.usual_state.value,
        "cpu_overcommit": host.cpu_overcommit,
        "memory_overcommit": host.memory_overcommit,
        "memory_reserve_mib": host.memory_reserve_mib,
        "facts": host.facts.model_dump(mode="json") if host.facts else None,
        "last_seen_at": host.last_seen_at,
    }


class Hosts:
    """The hosts, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, host_id: UUID) -> Host | None:
        """Read one and keep others from changing it until the transaction ends."""
        # Lock, then read: one statement for both would join the newest row with what others were when it began.
        statement = select(resources.c.id).where(resources.c.id == host_id).with_for_update(key_share=True)
        await self._connection.execute(statement)
        return await self.get(host_id)

    async def lock_ref(self, ref: str) -> Host:
        """Read and lock by id or name; NotFoundError if there is none."""
        statement = select(resources.c.id).where(*self._is(ref)).with_for_update(key_share=True)
        host_id = (await self._connection.execute(statement)).scalar_one_or_none()
        host = await self.get(host_id) if host_id else None
        return host or self._found(None, ref)

    async def hold(self, host_id: UUID) -> None:
        """Keep a host's state as it is until the transaction ends, so that nothing is placed on one that is leaving."""
        statement = select(resources.c.id).where(resources.c.id == host_id).with_for_update(read=True)
        await self._connection.execute(statement)

    async def has_uri(self, technology: str, uri: str) -> str | None:
        """The name of the host that is reached at an address already."""
        statement = (
            select(resources.c.name)
            .join(hosts, hosts.c.id == resources.c.id)
            .where(
                hosts.c.connection["uri"].astext == uri,
                resources.c.technology == technology,
                resources.c.state != HostState.REMOVED.value,
            )
            .limit(1)
        )
        found: str | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return found

    async def get(self, host_id: UUID) -> Host | None:
        """Read one without a lock."""
        row = (await self._connection.execute(select_hosts().where(resources.c.id == host_id))).one_or_none()
        return row_to_host(row) if row else None

    async def get_ref(self, ref: str) -> Host:
        """Read by id or name without a lock; NotFoundError if there is none."""
        row = (await self._connection.execute(select_hosts().where(*self._is(ref)))).one_or_none()
        return self._found(row, ref)

    def _is(self, ref: str) -> tuple[ColumnElement[bool], ...]:
        return (
            resources.c.kind == ResourceKind.PHYSICAL.value,
            resources.c.id == UUID(ref) if is_id(ref) else resources.c.name == ref,
            resources.c.state.not_in(GONE),
        )

    @staticmethod
    def _found(row: Row[Any] | None, ref: str) -> Host:
        if row is None:
            raise NotFoundError(
                f"There is no host {ref!r}. List the hosts to see which there are.", details={"host": ref}
            )
        return row_to_host(row)

    async def add(self, host: Host) -> None:
        """Insert a new one with its physical resource. IntegrityError when its id or its name is taken."""
        await self._connection.execute(
            insert(resources).values(
                id=host.id, kind=ResourceKind.PHYSICAL.value, created_at=host.created_at, **_resource_values(host)
            )
        )
        await self._connection.execute(insert(hosts).values(id=host.id, **_host_values(host)))
        host.saved_revision = host.revision

    async def save(self, host: Host, now: datetime) -> None:
        """Write it back, its reserved counters apart."""
        host.updated_at = now
        statement = (
            update(resources)
            .where(resources.c.id == host.id, resources.c.revision == host.saved_revision)
            .values(**_resource_values(host))
        )
        if (await self._connection.execute(statement)).rowcount != 1:
            raise TemporaryError(f"The host {host.name!r} was changed at the same time.", retry_after=0.1)
        await self._connection.execute(update(hosts).where(hosts.c.id == host.id).values(**_host_values(host)))
        host.saved_revision = host.revision

    async def touch(self, seen: Mapping[UUID, datetime]) -> None:
        """Note when hosts answered. A row that somebody else has locked is left out: the next heartbeat comes soon."""
        if seen:
            await self._connection.execute(_TOUCH, {"ids": list(seen), "moments": list(seen.values())})

    async def reserve(self, wanted: Reservation, states: tuple[HostState, ...] = (HostState.READY,)) -> bool:
        """Take capacity if the host still has it and is in one of the states; False if not.

        One conditional statement: whoever comes second sees what the first one took.
        """
        memory = cast(
            func.floor(
                (cast(hosts.c.facts["memory_mib"].astext, BigInteger) - hosts.c.memory_reserve_mib)
                * hosts.c.memory_overcommit
            ),
            BigInteger,
        )
        cpus = cast(func.floor(cast(hosts.c.facts["cpus"].astext, BigInteger) * hosts.c.cpu_overcommit), BigInteger)
        ready = (
            select(resources.c.id)
            .where(resources.c.id == hosts.c.id, resources.c.state.in_([state.value for state in states]))
            .exists()
        )
        statement = (
            update(hosts)
            .where(hosts.c.id == wanted.host_id, ready)
            .values(
                memory_reserved_mib=hosts.c.memory_reserved_mib + wanted.memory_mib,
                cpus_reserved=hosts.c.cpus_reserved + wanted.cpus,
                partitions=hosts.c.partitions + wanted.partitions,
            )
        )
        if wanted.memory_mib > 0:
            statement = statement.where(hosts.c.memory_reserved_mib + wanted.memory_mib <= memory)
        if wanted.cpus > 0:
            statement = statement.where(hosts.c.cpus_reserved + wanted.cpus <= cpus)
        return (await self._connection.execute(statement)).rowcount == 1

    async def add_reservation(self, taken: Reservation) -> None:
        """Count what is on the host already, whether it fits or not: an adopted partition."""
        await self._change(taken, 1)

    async def give_back(self, taken: Reservation) -> None:
        """Give capacity back."""
        await self._change(taken, -1)

    async def _change(self, taken: Reservation, sign: int) -> None:
        if not (taken.memory_mib or taken.cpus or taken.partitions):
            return
        await self._connection.execute(
            update(hosts)
            .where(hosts.c.id == taken.host_id)
            .values(
                memory_reserved_mib=hosts.c.memory_reserved_mib + sign * taken.memory_mib,
                cpus_reserved=hosts.c.cpus_reserved + sign * taken.cpus,
                partitions=hosts.c.partitions + sign * taken.partitions,
            )
        )
