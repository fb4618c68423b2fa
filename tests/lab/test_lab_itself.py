"""The lab's own promises: hosts answer, faults are what they say, nothing is left behind.

Everything here runs in labs of its own, beside whatever lab is up.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from qemu_lab import CHAP_TARGET, NBD_EXPORT, NFS_EXPORT, Lab, LabError
from qemu_lab.cgroups import CgroupsV1, CgroupsV2, detect
from qemu_lab.plan import Folder, members
from qemu_lab.shell import eventually

DOMAIN = """<domain type='qemu'><name>{0}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
<devices><interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface></devices></domain>"""
SERVER = "import http.server as h; h.HTTPServer(('127.0.0.1', 8080), h.SimpleHTTPRequestHandler).serve_forever()"


def libvirt_answers(lab: Lab, uri: str, seconds: int = 10) -> bool:
    """Whether libvirt answers there within that time."""
    command = lab.controller_command(["timeout", str(seconds), "virsh", "-q", "-c", uri, "version"])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def folder_beside(name: str) -> Folder:
    """A folder with a fixed name: what a killed test run leaves, the next one finds and clears away."""
    lab = Folder.from_environment().path
    return Folder(lab.with_name(f"{lab.name}-{name}"))


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    lab = Lab(folder_beside("itself"))
    lab.down()
    assert lab.up(2)
    yield lab
    lab.down()
    assert lab.leftovers() == []


@pytest.mark.lab
@pytest.mark.parametrize("transport", ["tcp", "tls", "ssh"])
def test_each_hypervisor_answers_libvirt(own_lab: Lab, transport: Literal["tcp", "tls", "ssh"]) -> None:
    for host in own_lab.hypervisors:
        assert libvirt_answers(own_lab, own_lab.uri(host.name, transport))


@pytest.mark.lab
def test_every_host_answers_ssh_under_its_known_key(own_lab: Lab) -> None:
    for host in own_lab.hosts:
        options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={own_lab.known_hosts}"]
        command = ["ssh", "-i", str(own_lab.ssh_key), *options, f"root@{host.address}", "hostname"]
        assert own_lab.run("ctl", command).strip() == host.name


@pytest.mark.lab
def test_the_bare_host_runs_no_libvirt_and_keeps_its_packages_configuration(own_lab: Lab) -> None:
    assert own_lab.run("bare", ["pgrep", "-c", "sshd"]).strip() != "0"
    with pytest.raises(LabError):
        own_lab.run("bare", ["pgrep", "-x", "libvirtd"])
    shipped = Path("/etc/libvirt/libvirtd.conf").read_text()
    assert own_lab.run("bare", ["cat", "/etc/libvirt/libvirtd.conf"]) == shipped


@pytest.mark.lab
def test_hosts_share_one_folder_and_have_one_each(own_lab: Lab) -> None:
    own_lab.run("kvm1", ["sh", "-c", "echo common > /lab/shared/note; echo mine > /lab/local/note"])
    assert own_lab.run("kvm2", ["cat", "/lab/shared/note"]) == "common\n"
    assert not (own_lab.local("kvm2") / "note").exists()


@pytest.mark.lab
def test_storage_is_served_to_the_hosts(own_lab: Lab) -> None:
    account = f"{CHAP_TARGET.user}%{CHAP_TARGET.password}"
    for address in (
        f"iscsi://{account}@{CHAP_TARGET.portal}/{CHAP_TARGET.iqn}/{CHAP_TARGET.lun}",
        f"nbd://{NBD_EXPORT.server}:{NBD_EXPORT.port}/{NBD_EXPORT.name}",
    ):
        assert "virtual size: 128 MiB" in own_lab.run("kvm1", ["qemu-img", "info", address])
    own_lab.run("sto", ["qemu-img", "create", "-q", f"{NFS_EXPORT.directory}/disk", "8M"])
    address = f"nfs://{NFS_EXPORT.server}{NFS_EXPORT.path}/disk"
    assert "virtual size: 8 MiB" in own_lab.run("kvm1", ["qemu-img", "info", address])
    with pytest.raises(LabError):  # without the account
        own_lab.run("kvm1", ["qemu-img", "info", f"iscsi://{CHAP_TARGET.portal}/{CHAP_TARGET.iqn}/1"])


@pytest.mark.lab
def test_the_controller_reaches_the_hosts_and_nothing_else(own_lab: Lab) -> None:
    assert own_lab.run("ctl", ["ip", "route", "show", "default"]) == ""
    assert own_lab.answers(own_lab.members["kvm1"].address, 22)
    with pytest.raises(OSError, match="unreachable"):
        own_lab.in_controller(lambda: socket.create_connection(("192.0.2.1", 80), 1))


@pytest.mark.lab
def test_a_server_in_the_controller_is_reached_over_http(own_lab: Lab) -> None:
    server = own_lab.popen_in_controller([sys.executable, "-c", SERVER], stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: own_lab.answers("127.0.0.1", 8080), 10)
        connection = own_lab.http(8080)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.kill()
        server.wait()


@pytest.mark.lab
def test_a_frozen_host_is_silent_until_it_thaws(own_lab: Lab) -> None:
    own_lab.freeze("kvm1")
    try:
        assert own_lab.is_on("kvm1")
        assert not libvirt_answers(own_lab, own_lab.uri("kvm1"), 2)
        assert libvirt_answers(own_lab, own_lab.uri("kvm2"))
    finally:
        own_lab.thaw("kvm1")
    assert libvirt_answers(own_lab, own_lab.uri("kvm1"))


@pytest.mark.lab
def test_a_pulled_cable_cuts_one_network_of_one_host(own_lab: Lab) -> None:
    kvm1, kvm2 = own_lab.hypervisors
    own_lab.link("kvm1", up=False)
    try:
        assert not own_lab.answers(kvm1.address, 22)
        assert own_lab.answers(kvm1.san_address, 22)
        assert own_lab.answers(kvm2.address, 22)
    finally:
        own_lab.link("kvm1", up=True)
    assert eventually(lambda: own_lab.answers(kvm1.address, 22), 10)


@pytest.mark.lab
def test_a_guest_outlives_libvirtd_but_not_a_signal(own_lab: Lab) -> None:
    virsh = ["virsh", "-q", "-c", own_lab.uri("kvm1")]
    own_lab.run("kvm1", ["virsh", "-q", "create", "/dev/stdin"], DOMAIN.format("survivor"))
    own_lab.kill_libvirtd("kvm1")
    assert eventually(lambda: not own_lab.answers(own_lab.members["kvm1"].address, 16509), 5)
    own_lab.start_libvirtd("kvm1")
    assert own_lab.run("ctl", [*virsh, "domstate", "survivor"]).strip() == "running"
    own_lab.kill_guest("kvm1", "survivor")
    assert eventually(lambda: "survivor" not in own_lab.run("ctl", [*virsh, "list", "--name"]), 5)


@pytest.mark.lab
def test_a_power_cut_takes_the_guests_and_leaves_the_disks(own_lab: Lab) -> None:
    own_lab.run("kvm2", ["virsh", "-q", "define", "/dev/stdin"], DOMAIN.format("kept"))
    own_lab.run("kvm2", ["virsh", "-q", "start", "kept"])
    own_lab.power_cut("kvm2")
    assert not own_lab.is_on("kvm2")
    with pytest.raises(LabError, match="kvm2 is off"):
        own_lab.run("kvm2", ["true"])
    own_lab.start("kvm2")
    assert own_lab.run("kvm2", ["virsh", "-q", "domstate", "kept"]).strip() == "shut off"
    own_lab.run("kvm2", ["virsh", "-q", "undefine", "kept"])


@pytest.mark.lab
def test_up_is_harmless_while_it_runs_and_heals_it(own_lab: Lab) -> None:
    own_lab.freeze("kvm1")
    own_lab.link("kvm2", up=False)
    assert not own_lab.up(2)
    assert libvirt_answers(own_lab, own_lab.uri("kvm1"))
    assert libvirt_answers(own_lab, own_lab.uri("kvm2"))


@pytest.mark.lab
def test_up_clears_away_what_a_crash_left() -> None:
    folder = folder_beside("crash")
    lab = Lab(folder)
    lab.up(1)
    folder.description.unlink()
    stranger = subprocess.Popen(["sleep", "60"])
    server = lab.popen_in_controller(["sleep", "60"])
    try:
        assert lab.up(0)
        assert server.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None, "a process that the lab did not start was ended"
        assert [host.name for host in lab.hosts] == ["sto", "bare"]
    finally:
        lab.down()
        stranger.kill()
        stranger.wait()
    assert lab.leftovers() == []
    assert not folder.path.exists()
    lab.down()


@pytest.mark.lab
@pytest.mark.skipif(not Path("/sys/fs/cgroup/unified").is_dir(), reason="only a machine with both cgroup versions")
def test_the_lab_runs_on_cgroup_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENQRM_LAB_CGROUPS", "v2")
    lab = Lab(folder_beside("v2"))
    lab.up(1)
    try:
        assert libvirt_answers(lab, lab.uri("kvm1"))
        lab.run("kvm1", ["virsh", "-q", "create", "/dev/stdin"], DOMAIN.format("guest"))
        lab.freeze("kvm1")
        assert not libvirt_answers(lab, lab.uri("kvm1"), 2)
        lab.power_cut("kvm1")
        lab.start("kvm1")
        assert libvirt_answers(lab, lab.uri("kvm1"))
    finally:
        lab.down()
    assert lab.leftovers() == []


def test_members_have_addresses_of_their_own() -> None:
    everyone = members(9).values()
    assert len({member.address for member in everyone}) == len(everyone) == 12
    with pytest.raises(LabError, match="0 to 9"):
        members(10)


def test_labs_in_two_folders_do_not_share_names() -> None:
    one, other = Folder(Path("/a")), Folder(Path("/b"))
    assert one.namespace("kvm1") != other.namespace("kvm1")


def fake_v2(root: Path) -> CgroupsV2:
    """A version 2 tree made of plain files."""
    for group in (root, root / "openqrm-lab-test"):
        group.mkdir(exist_ok=True)
        (group / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
        (group / "cgroup.subtree_control").write_text("")
    found = detect("test", root)
    assert isinstance(found, CgroupsV2)
    return found


def test_version_2_keeps_processes_out_of_the_inner_group(tmp_path: Path) -> None:
    groups = fake_v2(tmp_path)
    groups.create("kvm1")
    host = tmp_path / "openqrm-lab-test/kvm1"
    assert groups.entrances("kvm1", first=True) == [host / "cgroup.procs"]
    assert groups.entrances("kvm1") == [host / "init/cgroup.procs"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids"
    assert groups.names() == {"kvm1"}
    assert groups.mounts == "v2"


def test_version_2_freezes_and_kills_through_its_files(tmp_path: Path) -> None:
    groups = fake_v2(tmp_path)
    groups.create("kvm1")
    host = tmp_path / "openqrm-lab-test/kvm1"
    for file in ("cgroup.freeze", "cgroup.kill"):
        (host / file).write_text("0")
    groups.set_frozen("kvm1", frozen=True)
    assert (host / "cgroup.freeze").read_text() == "1"
    groups.kill("kvm1")
    assert (host / "cgroup.freeze").read_text() == "0"
    assert (host / "cgroup.kill").read_text() == "1"


def test_processes_of_a_host_are_found_in_every_inner_group(tmp_path: Path) -> None:
    groups = fake_v2(tmp_path)
    groups.create("kvm1")
    host = tmp_path / "openqrm-lab-test/kvm1"
    (host / "init/cgroup.procs").write_text("10\n11\n")
    (host / "machine/guest").mkdir(parents=True)
    (host / "machine/guest/cgroup.procs").write_text("12\n")
    assert groups.processes("kvm1") == {10, 11, 12}


def test_version_1_follows_trees_that_carry_two_names(tmp_path: Path) -> None:
    for name in ("cpu,cpuacct", "freezer", "memory"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "cpuacct").symlink_to("cpu,cpuacct")
    groups = detect("test", tmp_path)
    assert isinstance(groups, CgroupsV1)
    groups.create("kvm1")
    assert groups.mounts == "v1 freezer cpu,cpuacct memory"
    assert groups.entrances("kvm1")[0] == tmp_path / "freezer/openqrm-lab-test/kvm1/cgroup.procs"
    groups.remove("kvm1")
    groups.remove_all()
    assert not (tmp_path / "freezer/openqrm-lab-test").exists()


def test_a_machine_without_cgroups_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="neither"):
        detect("test", tmp_path)
