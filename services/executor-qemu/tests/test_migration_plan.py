import xml.etree.ElementTree as ET

import pytest
from qemu_definitions import disk, image_disk, iso_disk, partition

from openqrm.contracts.errors import UnsupportedError
from openqrm.contracts.host import HostConnection
from openqrm.contracts.partition import BlockDisk, DiskProtocol, FileDisk, NetworkDisk, PartitionDefinition
from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.domain_xml import HostSide, render_domain
from openqrm.executor_qemu.metadata import Marks
from openqrm.executor_qemu.migration_plan import migration_uri, moved_bytes, percent_of, plan_moves


def host(path: str = "/disks", shared: bool = False, **changes: str) -> HostConnection:
    return HostConnection(
        uri="qemu+ssh://root@kvm2/system",
        storage_path=path,
        shared_storage=shared,
        **changes,  # type: ignore[arg-type]
    )


def domain(definition: PartitionDefinition) -> ET.Element:
    isos = {disk.id: "/disks/x.iso" for disk in definition.disks}
    return parse_xml(render_domain(definition, "n", HostSide("tcg", "/disks", iso_paths=isos), Marks(1)))


def test_made_disks_are_copied_between_hosts_with_storage_of_their_own() -> None:
    definition = partition(disks=(image_disk(),))
    moves = plan_moves(definition, domain(definition), host(), host("/other"))
    assert [one.target for one in moves.copied] == ["vda"]
    (there,) = moves.paths.values()
    assert there.startswith("/other/")
    assert not moves.shared


def test_made_disks_stay_where_both_hosts_see_them_under_one_path() -> None:
    definition = partition(disks=(image_disk(),))
    moves = plan_moves(definition, domain(definition), host(shared=True), host("/disks/", shared=True))
    assert moves.copied == ()
    assert moves.shared
    assert plan_moves(definition, domain(definition), host(shared=True), host("/other", shared=True)).copied
    assert plan_moves(definition, domain(definition), host(shared=True), host()).copied


def test_isos_are_fetched_and_network_disks_are_everywhere() -> None:
    net = disk("vdb", NetworkDisk(protocol=DiskProtocol.NBD, server="s", volume="e"))
    definition = partition(disks=(iso_disk("vda"), net))
    moves = plan_moves(definition, domain(definition), host(), host())
    assert [one.target for one in moves.isos] == ["vda"]
    assert (moves.copied, moves.shared) == ((), False)


@pytest.mark.parametrize("source", [FileDisk(path="/srv/x"), BlockDisk(device="/dev/x")])
def test_what_only_one_host_has_cannot_move(source: FileDisk | BlockDisk) -> None:
    definition = partition(disks=(disk("vda", source),))
    with pytest.raises(UnsupportedError, match="Declare it as shared"):
        plan_moves(definition, domain(definition), host(), host())
    declared = partition(disks=(disk("vda", source.model_copy(update={"shared": True})),))
    assert plan_moves(declared, domain(declared), host(), host()).shared


def test_a_disk_that_nobody_knows_cannot_move() -> None:
    definition = partition(disks=(disk("vda", FileDisk(path="/srv/x", shared=True)),))
    with pytest.raises(UnsupportedError):
        plan_moves(partition(), domain(definition), host(), host())


def test_where_the_memory_goes() -> None:
    assert migration_uri(host()) == "tcp://kvm2"
    assert migration_uri(host(migration_address="10.0.0.2")) == "tcp://10.0.0.2"
    assert migration_uri(host(migration_address="fd00::2")) == "tcp://[fd00::2]"
    assert migration_uri(HostConnection(uri="qemu:///system")) is None


def test_progress() -> None:
    assert percent_of({}) is None
    statistics: dict[str, object] = {
        "memory_total": 100,
        "memory_remaining": 50,
        "disk_total": 100,
        "disk_remaining": 0,
    }
    assert percent_of(statistics) == 75
    assert percent_of({"memory_total": 10, "memory_remaining": 0}) == 99
    assert moved_bytes({"memory_processed": 3, "disk_processed": 4}) == 7
