"""Values as people write them."""

import pytest
import typer

from openqrm.cli.values import disk, mib, nic, pairs, pins


@pytest.mark.parametrize(
    ("text", "size"),
    [("256", 256), ("2G", 2048), ("2g", 2048), ("2GiB", 2048), ("2 GB", 2048), ("1.5T", 1572864), ("512M", 512),
     ("1024k", 1)],
)  # fmt: skip
def test_sizes_are_mib(text: str, size: int) -> None:
    assert mib(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1", "1.5", "1X", "512k", "1e3"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        mib(text)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("blank:1024", {"source": {"kind": "blank", "size_mib": 1024}}),
        ("blank:10G?bus=sata&format=raw",
         {"source": {"kind": "blank", "size_mib": 10240, "format": "raw"}, "bus": "sata"}),
        ("image:demo", {"source": {"kind": "image", "image": "demo"}}),
        ("image:a:b c:2G", {"source": {"kind": "image", "image": "a:b c", "size_mib": 2048}}),
        ("file:/srv/a.img?shared&read_only=yes",
         {"source": {"kind": "file", "path": "/srv/a.img", "shared": True}, "read_only": True}),
        ("block:/dev/vg/lv", {"source": {"kind": "block", "device": "/dev/vg/lv"}}),
        ("iscsi://s1:3261/iqn.2026-01.a:t1/1", {"source": {"kind": "network", "protocol": "iscsi", "server": "s1",
                                                           "port": 3261, "volume": "iqn.2026-01.a:t1/1"}}),
        ("nfs://s1/export/a.img", {"source": {"kind": "network", "protocol": "nfs", "server": "s1",
                                              "volume": "/export/a.img"}}),
        ('{"kind": "blank", "size_mib": 5}', {"source": {"kind": "blank", "size_mib": 5}}),
        ('{"source": {"kind": "blank", "size_mib": 5}, "bus": "ide"}',
         {"source": {"kind": "blank", "size_mib": 5}, "bus": "ide"}),
    ],
)  # fmt: skip
def test_disks(text: str, spec: object) -> None:
    assert disk(text) == spec


@pytest.mark.parametrize("text", ["", "demo", "tape:1", "blank:x", "{", "blank:", "file:/x?shared=perhaps"])
def test_what_is_no_disk(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        disk(text)


def test_network_interfaces_pins_and_pairs() -> None:
    assert nic("default") == {"network": "default"}
    assert nic("a b,mac=52:54:00:00:00:01,model=e1000") == {
        "network": "a b", "mac": "52:54:00:00:00:01", "model": "e1000",
    }  # fmt: skip
    assert pins(["0=0-2,8", "1=3"]) == {"0": [0, 1, 2, 8], "1": [3]}
    assert pairs(["a=b=c"], "K=V") == {"a": "b=c"}
    for wrong in (lambda: nic("a,b"), lambda: pins(["x=1"]), lambda: pins(["0=a"]), lambda: pairs(["a"], "K=V")):
        with pytest.raises(typer.BadParameter):
            wrong()
