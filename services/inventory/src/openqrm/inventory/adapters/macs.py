"""MAC addresses in PostgreSQL: unique across the data centre, under any concurrency."""

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from openqrm.contracts.errors import ConflictError, DuplicateError, ExhaustedError, NotFoundError, UnsupportedError
from openqrm.contracts.mac import MacState
from openqrm.inventory.adapters.tables import mac_addresses, technologies
from openqrm.inventory.domain.mac_ranges import to_number, to_text
from openqrm.persistence.connection import Connection, Statement

GUESSES = 8
"""Random tries before the range is searched for a gap; in a half full range all eight miss once in 256 times."""

_GAP = text(
    """
    SELECT candidate FROM (SELECT generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS candidate) AS c
    WHERE NOT EXISTS (
        SELECT 1 FROM mac_addresses m WHERE m.mac = candidate AND NOT (m.state = 'quarantined' AND m.free_after <= :now)
    ) LIMIT 16
    """
)
"""The series stands in a select list, where it is made as far as it is read, not as a whole like in FROM."""


_RANGE = Statement(
    select(technologies.c.mac_first, technologies.c.mac_last).where(technologies.c.name == bindparam("name"))
)
_TAKEN: dict[str, Any] = {
    "technology": bindparam("technology"),
    "state": MacState.ALLOCATED.value,
    "partition_id": bindparam("partition_id"),
    "host_id": None,
    "request_id": bindparam("request_id"),
    "note": bindparam("note"),
    "free_after": None,
    "changed_at": bindparam("now"),
}
# Not ON CONFLICT DO UPDATE: that locks the row of whoever has the address, which two that guess wrong twice would make
# a deadlock of.
_TAKE_NEW = Statement(
    insert(mac_addresses).values(mac=bindparam("number"), **_TAKEN).on_conflict_do_nothing(index_elements=["mac"])
)
_TAKE_RESTED = Statement(
    update(mac_addresses)
    .where(
        mac_addresses.c.mac == bindparam("number"),
        mac_addresses.c.state == MacState.QUARANTINED.value,
        mac_addresses.c.free_after <= bindparam("now"),
    )
    .values(_TAKEN)
)
_RELEASE = Statement(
    update(mac_addresses)
    .where(
        mac_addresses.c.mac == bindparam("number"),
        or_(
            mac_addresses.c.state == MacState.ALLOCATED.value,
            mac_addresses.c.state == MacState.QUARANTINED.value,
        ),
    )
    .values(
        state=MacState.QUARANTINED.value,
        partition_id=None,
        request_id=None,
        free_after=func.coalesce(mac_addresses.c.free_after, bindparam("rested_at")),
        changed_at=bindparam("now"),
    )
    .returning(mac_addresses.c.free_after)
)


class Macs:
    """The addresses, within one transaction."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now

    async def allocate(
        self,
        technology: str,
        partition_id: UUID | None = None,
        request_id: UUID | None = None,
        wished: str | None = None,
        note: str = "",
    ) -> str:
        """Take a free address of the technology's range, or the wished one.

        Raises ExhaustedError when the range is full, DuplicateError when the wished one is taken.
        """
        if request_id is not None and (before := await self._of_request(request_id, technology, wished)):
            return before
        first, last = await self._range(technology)
        if wished is not None:
            return await self._take_wished(technology, wished, partition_id, request_id, note)
        for _ in range(GUESSES):
            candidate = random.randint(first, last)  # noqa: S311 - spread, not secrecy
            if await self._take(candidate, technology, partition_id, request_id, note):
                return to_text(candidate)
        # Every gap that is found can be lost to somebody faster; only when there is none left is the range full.
        while gaps := await self._gaps(first, last):
            for candidate in gaps:
                if await self._take(candidate, technology, partition_id, request_id, note):
                    return to_text(candidate)
        raise ExhaustedError(
            f"The MAC namespace of {technology} ({to_text(first)} to {to_text(last)}) has "
            "no free address. Delete unused NICs, or wait until released addresses have left their quarantine.",
            details={"technology": technology, "size": last - first + 1},
        )

    async def _gaps(self, first: int, last: int) -> list[int]:
        start = random.randint(first, last)  # noqa: S311
        for part_first, part_last in ((start, last), (first, start)):
            rows = await self._connection.execute(_GAP, {"first": part_first, "last": part_last, "now": self._now})
            if gaps := list(rows.scalars()):
                random.shuffle(gaps)
                return gaps
        return []

    async def _of_request(self, request_id: UUID, technology: str, wished: str | None) -> str | None:
        statement = select(mac_addresses.c.mac, mac_addresses.c.technology).where(
            mac_addresses.c.request_id == request_id
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        mac = to_text(row.mac)
        if row.technology != technology or (wished is not None and wished != mac):
            raise ConflictError(
                f"The request {request_id} was answered with {mac} of {row.technology}. Use another request_id."
            )
        return mac

    async def _range(self, technology: str) -> tuple[int, int]:
        row = await self._connection.one(_RANGE, name=technology)
        if row is None:
            raise NotFoundError(f"There is no technology {technology!r}; see the list of them.")
        if row["mac_first"] is None:
            raise UnsupportedError(f"Guests of {technology} have no MAC addresses of their own.")
        return row["mac_first"], row["mac_last"]

    async def _take(
        self, number: int, technology: str, partition_id: UUID | None, request_id: UUID | None, note: str
    ) -> bool:
        values = {
            "number": number,
            "technology": technology,
            "partition_id": partition_id,
            "request_id": request_id,
            "note": note,
            "now": self._now,
        }
        if await self._connection.change(_TAKE_NEW, **values) == 1:
            return True
        return await self._connection.change(_TAKE_RESTED, **values) == 1

    async def _take_wished(
        self, technology: str, wished: str, partition_id: UUID | None, request_id: UUID | None, note: str
    ) -> str:
        if await self._take(to_number(wished), technology, partition_id, request_id, note):
            return wished
        row = (
            await self._connection.execute(
                select(mac_addresses.c.state, mac_addresses.c.free_after).where(
                    mac_addresses.c.mac == to_number(wished)
                )
            )
        ).one()
        why = {
            MacState.ALLOCATED.value: "it is in use",
            MacState.FOREIGN.value: "it was seen on a host, on a partition that is not ours",
            MacState.QUARANTINED.value: f"it rests until {row.free_after} after its last use",
        }[row.state]
        raise DuplicateError(f"The MAC address {wished} cannot be had: {why}. Choose another one, or none.")

    async def release(self, mac: str, quarantine_seconds: int) -> datetime | None:
        """Give an address back; returns when it may be given out again, None when nobody had it."""
        rested_at = self._now + timedelta(seconds=quarantine_seconds)
        number = to_number(mac)
        released: datetime | None = await self._connection.value(
            _RELEASE, number=number, rested_at=rested_at, now=self._now
        )
        return released

    async def holder(self, mac: str) -> UUID | None:
        """The partition that has an address."""
        statement = select(mac_addresses.c.partition_id).where(mac_addresses.c.mac == to_number(mac))
        found: UUID | None = (await self._connection.execute(statement)).scalar_one_or_none()
        return found

    async def adopt(self, mac: str, technology: str, partition_id: UUID) -> None:
        """Make a foreign address one of a partition of ours. DuplicateError when another one has it."""
        values = {
            "technology": technology,
            "state": MacState.ALLOCATED.value,
            "partition_id": partition_id,
            "host_id": None,
            "free_after": None,
            "changed_at": self._now,
        }
        statement = (
            insert(mac_addresses)
            .values(mac=to_number(mac), **values)
            .on_conflict_do_update(
                index_elements=[mac_addresses.c.mac],
                set_=values,
                where=mac_addresses.c.state != MacState.ALLOCATED.value,
            )
        )
        if (await self._connection.execute(statement)).rowcount != 1:
            raise DuplicateError(
                f"The MAC address {mac} is in use already. Give the stranger's NIC another one on its host first."
            )

    async def keep_foreign(self, host_id: UUID, macs: set[str], quarantine_seconds: int) -> None:
        """All other foreign addresses of a host are gone. They rest: they may be on a host that was not read yet."""
        await self._connection.execute(
            update(mac_addresses)
            .where(
                mac_addresses.c.host_id == host_id,
                mac_addresses.c.state == MacState.FOREIGN.value,
                mac_addresses.c.mac.not_in([to_number(mac) for mac in macs]),
            )
            .values(
                state=MacState.QUARANTINED.value,
                host_id=None,
                free_after=self._now + timedelta(seconds=quarantine_seconds),
                changed_at=self._now,
            )
        )

    async def note_foreign(self, host_id: UUID, technology: str, macs: set[str]) -> tuple[str, ...]:
        """Foreign addresses were seen on a host, and are not given out as long as they are.

        Returns those among them that we have given out to somebody else: the same address is there twice.
        """
        numbers = sorted(to_number(mac) for mac in macs)
        if not numbers:
            return ()
        known = select(mac_addresses.c.mac, mac_addresses.c.state).where(mac_addresses.c.mac.in_(numbers))
        states = {row.mac: row.state for row in await self._connection.execute(known)}
        values = {
            "technology": technology,
            "state": MacState.FOREIGN.value,
            "host_id": host_id,
            "partition_id": None,
            "request_id": None,
            "free_after": None,
            "note": "seen on a host",
            "changed_at": self._now,
        }
        for number in numbers:
            if states.get(number) not in (MacState.FOREIGN.value, MacState.ALLOCATED.value):
                await self._connection.execute(
                    insert(mac_addresses)
                    .values(mac=number, **values)
                    .on_conflict_do_update(
                        index_elements=[mac_addresses.c.mac],
                        set_=values,
                        where=mac_addresses.c.state == MacState.QUARANTINED.value,
                    )
                )
        return tuple(to_text(number) for number in numbers if states.get(number) == MacState.ALLOCATED.value)
