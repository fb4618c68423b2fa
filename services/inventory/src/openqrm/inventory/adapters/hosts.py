"""Hosts in PostgreSQL, and the capacity that is reserved on them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, Text, any_, bindparam, cast, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY

from openqrm.contracts.errors import NotFoundError, TemporaryError
from openqrm.contracts.host import HostConnection, HostFacts
from openqrm.contracts.ids import is_id
from openqrm.contracts.resource import ResourceKind
from openqrm.contracts.states import HostState
from openqrm.inventory.adapters.columns import insert_columns, json_as_text, update_columns
from openqrm.inventory.adapters.tables import LIVE, hosts, resources
from openqrm.inventory.domain.host import Host
from openqrm.inventory.domain.operation import Reservation
from openqrm.persistence.connection import Connection, Statement


def select_hosts() -> Select[Any]:
    """Everything that a Host is made of, by `row_to_host`."""
    return select(resources, *(json_as_text(column) for column in hosts.c if column.name != "id")).join(
        hosts, hosts.c.id == resources.c.id
    )


_TOUCH_SQL = """
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


def row_to_host(row: Mapping[Any, Any]) -> Host:
    """A Host from a row of `select_hosts`."""
    return Host(
        id=row["id"],
        revision=row["revision"],
        saved_revision=row["revision"],
        name=row["name"],
        technology=row["technology"],
        state=HostState(row["state"]),
        state_reason=row["state_reason"],
        usual_state=HostState(row["usual_state"]),
        connection=HostConnection.model_validate_json(row["connection"]),
        tags=tuple(row["tags"]),
        cpu_overcommit=row["cpu_overcommit"],
        memory_overcommit=row["memory_overcommit"],
        memory_reserve_mib=row["memory_reserve_mib"],
        facts=HostFacts.model_validate_json(row["facts"]) if row["facts"] else None,
        cpus_reserved=row["cpus_reserved"],
        memory_reserved_mib=row["memory_reserved_mib"],
        partitions=row["partitions"],
        operation_id=row["operation_id"],
        last_seen_at=row["last_seen_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _resource_values(host: Host) -> dict[str, Any]:
    return {
        "id": host.id,
        "name": host.name,
        "technology": host.technology,
        "state": host.state.value,
        "tags": host.tags,
        "memory_mib": host.facts.memory_mib if host.facts else None,
        "cpus": host.facts.cpus if host.facts else None,
        "operation_id": host.operation_id,
        "revision": host.revision,
        "updated_at": host.updated_at,
    }


def _host_values(host: Host) -> dict[str, Any]:
    # The reserved counters are left out: only `reserve` and `give_back` change them.
    return {
        "id": host.id,
        "connection": host.connection.model_dump_json(),
        "state_reason": host.state_reason,
        "usual_state": host.usual_state.value,
        "cpu_overcommit": host.cpu_overcommit,
        "memory_overcommit": host.memory_overcommit,
        "memory_reserve_mib": host.memory_reserve_mib,
        "facts": host.facts.model_dump_json() if host.facts else None,
        "last_seen_at": host.last_seen_at,
    }


_RESOURCE_COLUMNS = ("name", "technology", "state", "tags", "memory_mib", "cpus", "operation_id", "revision")
_HOST_COLUMNS = (
    "connection",
    "state_reason",
    "usual_state",
    "cpu_overcommit",
    "memory_overcommit",
    "memory_reserve_mib",
    "facts",
    "last_seen_at",
)
_LIVE_HOST = (resources.c.kind == ResourceKind.PHYSICAL.value, LIVE)
_BY_ID = resources.c.id == bindparam("id")
_BY_NAME = resources.c.name == bindparam("name")
_lock = select(resources.c.id).with_for_update(key_share=True)

_GET = Statement(select_hosts().where(_BY_ID))
_GET_LIVE = Statement(select_hosts().where(_BY_ID, *_LIVE_HOST))
_GET_NAMED = Statement(select_hosts().where(_BY_NAME, *_LIVE_HOST))
_LOCK = Statement(_lock.where(_BY_ID))
_LOCK_LIVE = Statement(_lock.where(_BY_ID, *_LIVE_HOST))
_LOCK_NAMED = Statement(_lock.where(_BY_NAME, *_LIVE_HOST))
_HOLD = Statement(select(resources.c.id).where(_BY_ID).with_for_update(read=True))
_HAS_URI = Statement(
    select(resources.c.name)
    .join(hosts, hosts.c.id == resources.c.id)
    .where(
        hosts.c.connection["uri"].astext == bindparam("uri"),
        resources.c.technology == bindparam("technology"),
        resources.c.state != HostState.REMOVED.value,
    )
    .limit(1)
)
_ADD_RESOURCE = Statement(insert_columns(resources, "id", "kind", "created_at", "updated_at", *_RESOURCE_COLUMNS))
_ADD_HOST = Statement(insert_columns(hosts, "id", *_HOST_COLUMNS))
_SAVE_RESOURCE = Statement(
    update_columns(resources, "updated_at", *_RESOURCE_COLUMNS).where(
        _BY_ID, resources.c.revision == bindparam("saved_revision")
    )
)
_SAVE_HOST = Statement(update_columns(hosts, *_HOST_COLUMNS).where(hosts.c.id == bindparam("id")))
_TOUCH = Statement(text(_TOUCH_SQL))

_memory = bindparam("memory_mib", type_=BigInteger)
_cpus = bindparam("cpus", type_=BigInteger)
_counted = {
    "memory_reserved_mib": hosts.c.memory_reserved_mib + _memory,
    "cpus_reserved": hosts.c.cpus_reserved + _cpus,
    "partitions": hosts.c.partitions + bindparam("partitions", type_=BigInteger),
}
_COUNT = Statement(update(hosts).where(hosts.c.id == bindparam("id")).values(_counted))
_RESERVE = Statement(
    update(hosts)
    .where(
        hosts.c.id == bindparam("id"),
        select(resources.c.id)
        .where(resources.c.id == hosts.c.id, resources.c.state == any_(bindparam("states", type_=ARRAY(Text))))
        .exists(),
        or_(
            _memory <= 0,
            hosts.c.memory_reserved_mib + _memory
            <= cast(
                func.floor(
                    (cast(hosts.c.facts["memory_mib"].astext, BigInteger) - hosts.c.memory_reserve_mib)
                    * hosts.c.memory_overcommit
                ),
                BigInteger,
            ),
        ),
        or_(
            _cpus <= 0,
            hosts.c.cpus_reserved + _cpus
            <= cast(func.floor(cast(hosts.c.facts["cpus"].astext, BigInteger) * hosts.c.cpu_overcommit), BigInteger),
        ),
    )
    .values(_counted)
)
"""One conditional statement: whoever comes second sees what the first one took."""


async def read_host_ref(connection: Connection, ref: str) -> Host:
    """Read by id or name without a lock; NotFoundError if there is none."""
    row = await (connection.one(_GET_LIVE, id=UUID(ref)) if is_id(ref) else connection.one(_GET_NAMED, name=ref))
    if row is None:
        raise _not_found(ref)
    return row_to_host(row)


def _not_found(ref: str) -> NotFoundError:
    return NotFoundError(f"There is no host {ref!r}. List the hosts to see which there are.", details={"host": ref})


class Hosts:
    """The hosts, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self, host_id: UUID) -> Host | None:
        """Read one and keep others from changing it until the transaction ends."""
        # Lock, then read: one statement for both would join the newest row with what others were when it began.
        await self._connection.value(_LOCK, id=host_id)
        return await self.get(host_id)

    async def lock_ref(self, ref: str) -> Host:
        """Read and lock by id or name; NotFoundError if there is none."""
        if is_id(ref):
            host_id = await self._connection.value(_LOCK_LIVE, id=UUID(ref))
        else:
            host_id = await self._connection.value(_LOCK_NAMED, name=ref)
        host = await self.get(host_id) if host_id else None
        if host is None:
            raise _not_found(ref)
        return host

    async def hold(self, host_id: UUID) -> None:
        """Keep a host's state as it is until the transaction ends, so that nothing is placed on one that is leaving."""
        await self._connection.value(_HOLD, id=host_id)

    async def has_uri(self, technology: str, uri: str) -> str | None:
        """The name of the host that is reached at an address already."""
        found: str | None = await self._connection.value(_HAS_URI, technology=technology, uri=uri)
        return found

    async def get(self, host_id: UUID) -> Host | None:
        """Read one without a lock."""
        row = await self._connection.one(_GET, id=host_id)
        return row_to_host(row) if row else None

    async def get_ref(self, ref: str) -> Host:
        """Read by id or name without a lock; NotFoundError if there is none."""
        return await read_host_ref(self._connection, ref)

    async def add(self, host: Host) -> None:
        """Insert a new one with its physical resource. DuplicateError when its id or its name is taken."""
        kind = ResourceKind.PHYSICAL.value
        resource = _resource_values(host) | {"kind": kind, "created_at": host.created_at}
        await self._connection.change_all([(_ADD_RESOURCE, resource), (_ADD_HOST, _host_values(host))])
        host.saved_revision = host.revision

    async def save(self, host: Host, now: datetime) -> None:
        """Write it back, its reserved counters apart."""
        host.updated_at = now
        resource = _resource_values(host) | {"saved_revision": host.saved_revision}
        found, _ = await self._connection.change_all([(_SAVE_RESOURCE, resource), (_SAVE_HOST, _host_values(host))])
        if found != 1:
            raise TemporaryError(f"The host {host.name!r} was changed at the same time.", retry_after=0.1)
        host.saved_revision = host.revision

    async def touch(self, seen: Mapping[UUID, datetime]) -> None:
        """Note when hosts answered. A row that somebody else has locked is left out: the next heartbeat comes soon."""
        if seen:
            await self._connection.change(_TOUCH, ids=list(seen), moments=list(seen.values()))

    async def reserve(self, wanted: Reservation, states: tuple[HostState, ...] = (HostState.READY,)) -> bool:
        """Take capacity if the host still has it and is in one of the states; False if not."""
        allowed = [state.value for state in states]
        return await self._connection.change(_RESERVE, states=allowed, **_counts(wanted, 1)) == 1

    async def add_reservation(self, taken: Reservation) -> None:
        """Count what is on the host already, whether it fits or not: an adopted partition."""
        await self._connection.change(_COUNT, **_counts(taken, 1))

    async def give_back(self, taken: Reservation) -> None:
        """Give capacity back."""
        if taken.memory_mib or taken.cpus or taken.partitions:
            await self._connection.change(_COUNT, **_counts(taken, -1))


def _counts(reservation: Reservation, sign: int) -> dict[str, Any]:
    return {
        "id": reservation.host_id,
        "memory_mib": sign * reservation.memory_mib,
        "cpus": sign * reservation.cpus,
        "partitions": sign * reservation.partitions,
    }
