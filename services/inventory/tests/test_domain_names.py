"""MAC ranges, device names, cursors."""

import base64
import json
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from partitions import partition

from openqrm.contracts.errors import InvalidError
from openqrm.contracts.partition import BlankDisk, DiskBus, DiskDefinition
from openqrm.inventory.adapters.tables import operations, resources
from openqrm.inventory.domain.mac_ranges import SEEDED, to_number, to_text
from openqrm.inventory.views.paging import _decode, _encode, escape_like


@given(st.integers(min_value=0, max_value=2**48 - 1))
def test_a_mac_address_is_a_number(number):
    assert to_number(to_text(number)) == number


def test_ranges_hold_individual_addresses_only_and_do_not_overlap():
    ranges = sorted((to_number(r.first), to_number(r.last), name) for name, (_, r) in SEEDED.items() if r)
    for first, last, name in ranges:
        assert first < last, name
        assert first >> 40 == last >> 40, f"{name} passes from one first byte to another"
        assert not first >> 40 & 1, f"{name} has multicast addresses"
    for (_, last, one), (first, _, other) in pairwise(ranges):
        assert last < first, f"{one} and {other} overlap"


def test_device_names_go_on_after_z():
    ours = partition(disks=[])
    for _ in range(28):
        ours.disks.append(
            DiskDefinition(
                id=UUID(int=1),
                target=ours.next_target(DiskBus.VIRTIO),
                source=BlankDisk(size_mib=1),
                bus=DiskBus.VIRTIO,
                read_only=False,
            )
        )
    assert [disk.target for disk in ours.disks][-3:] == ["vdz", "vdaa", "vdab"]
    del ours.disks[1]
    assert ours.next_target(DiskBus.VIRTIO) == "vdb"
    assert ours.next_target(DiskBus.SCSI) == "sda"


@given(st.text(min_size=1, max_size=200))
def test_a_cursor_gives_back_what_it_was_made_of(name):
    identity = UUID(int=5)
    assert _decode(_encode(resources.c.name, name, identity), resources.c.name, resources.c.id) == (name, identity)


def test_a_cursor_keeps_times():
    moment = datetime.fromisoformat("2026-01-01T12:00:00.123456+00:00")
    cursor = _encode(operations.c.created_at, moment, UUID(int=5))
    assert _decode(cursor, operations.c.created_at, operations.c.id) == (moment, UUID(int=5))


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "!!!!",
        encoded(None),
        encoded({}),
        encoded([1, 2]),
        encoded(["name", "a", 7]),
        encoded(["name", "a", "not an id"]),
        encoded(["name", "a", None]),
        encoded(["state", "a", str(UUID(int=1))]),
        "W" * 1000,
        base64.urlsafe_b64encode(b"[" * 700).decode(),
    ],
)
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(InvalidError, match="Begin again without a cursor"):
        _decode(cursor, resources.c.name, resources.c.id)


def test_a_time_without_a_zone_is_no_cursor():
    with pytest.raises(InvalidError):
        _decode(
            encoded(["created_at", "2026-01-01T00:00:00", str(UUID(int=1))]), operations.c.created_at, operations.c.id
        )


def test_a_text_is_a_pattern_of_itself():
    assert escape_like("50%_\\") == "50\\%\\_\\\\"
