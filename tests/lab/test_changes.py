"""Changes to a running partition, read back inside its guest over the console and on its host."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from product import BRIDGED, ISOLATED, Guest, Site, expect_failure, expect_refusal, wait_until
from qemu_lab import CHAP_TARGET, NBD_EXPORT, NFS_EXPORT
from qemu_lab.shell import run

pytestmark = pytest.mark.lab

MAX_MIB = 256
SMALL_MIB = 16


@pytest.fixture(scope="module")
def guest(site: Site) -> Iterator[Guest]:
    """A running guest that can grow."""
    made = site.guest("changing", "kvm1", memory_mib=MAX_MIB, memory_max_mib=MAX_MIB, vcpus=1, vcpus_max=2)
    yield made
    made.leave()


def memory(guest: Guest) -> int:
    """The guest's memory in MiB, as its kernel counts it."""
    return int(guest.run("cat /proc/meminfo").split("MemTotal:")[1].split()[0]) // 1024


def nics(guest: Guest) -> set[str]:
    """The addresses of the guest's NICs."""
    return set(guest.run("cat /sys/class/net/eth*/address").split())


def sectors(guest: Guest, target: str) -> int:
    """The size of a disk in the guest, in sectors of 512 bytes; 0 if there is none."""
    output, status = guest.shell().attempt(f"cat /sys/class/block/{target}/size")
    return int(output) if status == 0 else 0


# ------------------------------------------------------------------------------------------------ size and pinning


def test_memory_goes_down_and_up(guest: Guest) -> None:
    whole = memory(guest)
    guest.do("resize", memory_mib=MAX_MIB - 64)
    assert guest.view().memory_mib == MAX_MIB - 64
    wait_until(lambda: memory(guest) <= whole - 60, 20, "the guest has 64 MiB less")
    guest.do("resize", memory_mib=MAX_MIB)
    wait_until(lambda: memory(guest) == whole, 20, "the guest has all its memory again")
    assert guest.view().drift == ()


def test_more_than_the_maximum_is_refused(guest: Guest) -> None:
    with expect_refusal(422, "maximum", "stop"):
        guest.begin("resize", memory_mib=MAX_MIB + 64)
    with expect_refusal(422, "maximum"):
        guest.begin("resize", vcpus=3)


def test_a_vcpu_is_added(guest: Guest) -> None:
    assert guest.run("nproc") == "1"
    guest.do("resize", vcpus=2)
    assert guest.view().vcpus == 2
    wait_until(lambda: guest.run("nproc") == "2", 20, "the guest uses 2 vCPUs")


def test_a_pinned_vcpu_stays_on_its_cpu(site: Site, guest: Guest) -> None:
    def allowed() -> dict[str, str]:
        script = (
            f"for T in /proc/{guest.process('kvm1')}/task/*; do cat $T/comm; grep Cpus_allowed_list $T/status; done"
        )
        text = site.lab.run("kvm1", ["sh", "-c", script])
        return dict(re.findall(r"(CPU \d+/TCG)\nCpus_allowed_list:\s*(\S+)", text))

    facts = site.gateway.host("kvm1").facts
    assert facts is not None
    last = facts.cpus - 1
    guest.do("pin", cpu_pins={"0": [last]})
    assert allowed()["CPU 0/TCG"] == str(last)
    assert guest.view().cpu_pins == {0: (last,)}
    guest.do("pin", cpu_pins={})
    assert allowed()["CPU 0/TCG"] == f"0-{last}"
    with expect_refusal(422, "CPUs"):
        guest.begin("pin", cpu_pins={"0": [last + 1]})


# ------------------------------------------------------------------------------------------------ NICs


def test_nics_come_move_and_go(site: Site, guest: Guest) -> None:
    first = nics(guest)
    mac = guest.attach_nic(BRIDGED)
    wait_until(lambda: nics(guest) == first | {mac}, 20, "the guest has the new NIC")
    assert site.bridge_of("kvm1", mac) == "br0"
    guest.map_nic(mac, ISOLATED)
    assert site.bridge_of("kvm1", mac) == "br1"
    assert nics(guest) == first | {mac}
    assert {nic.network_name for nic in guest.view().nics if nic.mac == mac} == {ISOLATED}
    guest.detach_nic(mac)
    wait_until(lambda: nics(guest) == first, 20, "the NIC has left the guest")
    assert site.bridge_of("kvm1", mac) == ""
    with expect_refusal(404, mac):
        site.gateway.begin("DELETE", f"{guest.path}/nics/{mac}")


# ------------------------------------------------------------------------------------------------ disks


def chap_disk(site: Site) -> dict[str, Any]:
    """An iSCSI volume behind a password."""
    return {
        "kind": "network",
        "protocol": "iscsi",
        "server": CHAP_TARGET.portal.partition(":")[0],
        "volume": f"{CHAP_TARGET.iqn}/{CHAP_TARGET.lun}",
        "username": CHAP_TARGET.user,
        "password": CHAP_TARGET.password,
    }


def nfs_disk(site: Site) -> dict[str, Any]:
    """A file on an NFS server."""
    site.lab.run("sto", ["truncate", "-s", f"{SMALL_MIB}M", f"{NFS_EXPORT.directory}/disk.raw"])
    return {
        "kind": "network",
        "protocol": "nfs",
        "server": NFS_EXPORT.server,
        "volume": f"{NFS_EXPORT.path}/disk.raw",
    }


def nbd_disk(site: Site) -> dict[str, Any]:
    """An export of an NBD server."""
    return {"kind": "network", "protocol": "nbd", "server": NBD_EXPORT.server, "port": NBD_EXPORT.port,
            "volume": NBD_EXPORT.name}  # fmt: skip


def raw_file(site: Site) -> dict[str, Any]:
    """A file on the host."""
    site.lab.run("kvm1", ["truncate", "-s", f"{SMALL_MIB}M", "/lab/local/plain.raw"])
    return {"kind": "file", "path": "/lab/local/plain.raw", "format": "raw"}


def blank(site: Site) -> dict[str, Any]:
    """A disk made for the partition."""
    return {"kind": "blank", "size_mib": SMALL_MIB}


DISKS: dict[str, tuple[Callable[[Site], dict[str, Any]], int]] = {
    "blank qcow2": (blank, SMALL_MIB),
    "raw file": (raw_file, SMALL_MIB),
    "iSCSI with CHAP": (chap_disk, CHAP_TARGET.size_mib),
    "NFS": (nfs_disk, SMALL_MIB),
    "NBD": (nbd_disk, NBD_EXPORT.size_mib),
}


def use(guest: Guest, target: str, size_mib: int) -> None:
    """Write something to a disk in the guest, and read it back from the medium."""
    wait_until(lambda: sectors(guest, target) == size_mib * 2048, 20, f"{target} has {size_mib} MiB in the guest")
    assert target in guest.run("cat /proc/partitions")
    shell = guest.shell()
    text = f"written to {target} by openQRM"
    shell.run(f"echo '{text}' | dd of=/dev/{target} bs=512 seek=64 conv=sync,fsync 2>/dev/null")
    shell.run("echo 3 > /proc/sys/vm/drop_caches")
    assert shell.run(f"dd if=/dev/{target} bs=512 skip=64 count=1 2>/dev/null | tr -d '\\000'") == text


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_is_attached_used_and_detached(site: Site, guest: Guest, kind: str) -> None:
    describe, size_mib = DISKS[kind]
    before = site.volumes("kvm1")
    target = guest.attach_disk(describe(site))
    use(guest, target, size_mib)
    guest.detach_disk(target)
    wait_until(lambda: sectors(guest, target) == 0, 20, f"{target} has left the guest")
    assert target not in {disk.target for disk in guest.view().disks}
    assert site.volumes("kvm1") == before


def test_what_is_written_reaches_the_storage_server(site: Site, guest: Guest) -> None:
    data = site.lab.run("sto", ["sh", "-c", "cat /lab/local/lun2.raw /lab/local/nfs/disk.raw | strings | grep openQRM"])
    assert data.count("by openQRM") == 2


def test_a_password_is_not_shown(site: Site, guest: Guest) -> None:
    target = guest.attach_disk(chap_disk(site))
    assert CHAP_TARGET.password is not None
    assert CHAP_TARGET.password not in str(site.gateway.get(guest.path))
    assert CHAP_TARGET.password not in str(site.gateway.get("/operations", target_id=guest.id))
    assert CHAP_TARGET.password not in site.lab.run("kvm1", ["virsh", "-q", "dumpxml", str(guest.id)])
    guest.detach_disk(target)


def test_a_wrong_password_is_told(site: Site, guest: Guest) -> None:
    with expect_failure("iscsi"):
        guest.attach_disk({**chap_disk(site), "password": "wrong-secret"})
    assert len(guest.view().disks) == 1
    assert guest.state == "running"


def test_a_kept_volume_stays_on_the_host(site: Site, guest: Guest) -> None:
    before = site.volumes("kvm1")
    target = guest.attach_disk(blank(site))
    guest.detach_disk(target, keep=True)
    (kept,) = site.volumes("kvm1") - before
    site.lab.run("kvm1", ["rm", f"/lab/local/disks/{kept}"])


@contextmanager
def loop_device(site: Site, host: str, name: str) -> Iterator[str]:
    """A block device of a host, made of a file. Loop devices are the machine's: the host gets a node for one."""
    file = site.lab.local(host) / name
    file.touch()
    os.truncate(file, SMALL_MIB * 2**20)
    device = run(["losetup", "--find", "--show", str(file)]).strip()
    try:
        number = Path(device).stat().st_rdev
        site.lab.run(host, ["mknod", device, "b", str(os.major(number)), str(os.minor(number))])
        yield device
    finally:
        run(["losetup", "--detach", device])


def test_a_block_device_of_the_host_is_attached(site: Site, guest: Guest) -> None:
    with loop_device(site, "kvm1", "loop.raw") as device:
        target = guest.attach_disk({"kind": "block", "device": device})
        use(guest, target, SMALL_MIB)
        guest.detach_disk(target)
        wait_until(lambda: sectors(guest, target) == 0, 20, f"{target} has left the guest")


def test_changes_to_a_stopped_one_are_there_at_its_start(site: Site, guest: Guest) -> None:
    guest.leave()
    guest.do("stop")
    mac = guest.attach_nic(ISOLATED)
    target = guest.attach_disk(blank(site))
    guest.do("resize", memory_mib=192, memory_max_mib=192, vcpus=1)
    guest.do("start")
    assert mac in nics(guest)
    assert memory(guest) < 192
    assert guest.run("nproc") == "1"
    use(guest, target, SMALL_MIB)
    assert guest.view().drift == ()
