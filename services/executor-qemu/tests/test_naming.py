from uuid import UUID

import pytest
from qemu_definitions import DISK_ID, PARTITION_ID

from openqrm.contracts.partition import DiskFormat
from openqrm.executor_qemu.naming import MAX_SLUG_LENGTH, domain_name, pool_name, slug, volume_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web 1", "web-1"),
        ("Büro/Straße & <x>'\"", "buro-strae-x"),
        ("日本", ""),
        ("x" * 200, "x" * MAX_SLUG_LENGTH),
        ("--a--", "a"),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_domain_names_differ_for_ids_of_the_same_moment() -> None:
    other = UUID("01a20500-0000-7000-8000-0000abcd9999")
    assert domain_name(PARTITION_ID, "日本") == "partition-abcd1234"
    assert domain_name(PARTITION_ID, "a") != domain_name(other, "a")


def test_pools_of_different_folders_differ_even_where_their_slugs_agree() -> None:
    assert pool_name("/a/b") != pool_name("/a-b")
    assert pool_name("/var/lib/openqrm/disks").startswith("openqrm-var-lib-openqrm-disks-")


def test_volume_names() -> None:
    assert volume_name(PARTITION_ID, DISK_ID, DiskFormat.QCOW2) == f"{PARTITION_ID}-{DISK_ID}.qcow2"
