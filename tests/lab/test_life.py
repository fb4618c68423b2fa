"""The whole life of a partition, through the gateway."""

from collections.abc import Iterator

import pytest
from product import BRIDGED, Guest, Site, expect_refusal, sleep

from openqrm.contracts.ids import new_id
from openqrm.contracts.mac import MacState
from openqrm.contracts.states import HostState

pytestmark = pytest.mark.lab

NAME = "Büro 1 / 会計"


@pytest.fixture(scope="module")
def guest(site: Site) -> Iterator[Guest]:
    """A running guest whose name has blanks, a slash and letters of two scripts."""
    made = site.guest(NAME, "kvm1")
    yield made
    made.leave()


def uptime(guest: Guest) -> float:
    """How long the guest has been running, by its own clock."""
    return float(guest.run("cat /proc/uptime").split()[0])


def test_hosts_are_ready_with_their_facts(site: Site) -> None:
    for name in ("kvm1", "kvm2", "kvm3"):
        host = site.gateway.host(name)
        assert host.state is HostState.READY
        assert host.facts is not None
        assert host.facts.hostname == name
        assert {"br0", "br1"} <= set(host.facts.bridges)
        assert host.facts.acceleration == "tcg"
        assert host.facts.cpus >= 1


def test_it_boots_from_the_image_and_lets_people_in(site: Site, guest: Guest) -> None:
    view = site.gateway.partition(NAME)
    assert (view.id, view.name, view.state, view.host_name) == (guest.id, NAME, "running", "kvm1")
    assert guest.run("uname -s") == "Linux"
    (nic,) = view.nics
    assert guest.run("cat /sys/class/net/eth0/address") == nic.mac
    assert guest.running_on == ["kvm1"]
    assert guest.epoch_on("kvm1") == view.epoch


def test_what_its_state_does_not_allow_is_refused(site: Site, guest: Guest) -> None:
    with expect_refusal(409, "running", "stop"):
        guest.begin("start")
    with expect_refusal(409, "running"):
        guest.begin("unpause")
    with expect_refusal(409, "running", "stop"):
        site.gateway.begin("DELETE", guest.path)
    with expect_refusal(422, "memory"):
        guest.begin("resize", memory_mib=4096)
    assert guest.state == "running"


def test_what_does_not_exist_is_not_found(site: Site) -> None:
    with expect_refusal(404, "nobody"):
        site.gateway.begin("POST", "/partitions/nobody/start", {})
    with expect_refusal(404):
        site.gateway.begin("POST", f"/partitions/{new_id()}/pause", {})
    with expect_refusal(404):
        site.gateway.partition("nobody")


def test_its_clock_stands_while_it_is_paused(guest: Guest) -> None:
    before = uptime(guest)
    guest.do("pause")
    assert guest.state == "paused"
    assert guest.running_on == []
    sleep(4)
    guest.do("unpause")
    assert guest.state == "running"
    assert uptime(guest) - before < 3.5


def test_a_reboot_begins_anew(guest: Guest) -> None:
    shell = guest.shell()
    shell.run("touch /tmp/before")
    guest.do("reboot")
    shell.wait_for_boot()
    assert "before" not in shell.run("ls /tmp")
    assert uptime(guest) < 60
    assert guest.state == "running"


def test_a_hard_reboot_asks_nobody(guest: Guest) -> None:
    shell = guest.shell()
    shell.run("touch /tmp/hard")
    guest.do("reboot", hard=True)
    shell.wait_for_boot()
    assert "going down" not in shell.heard.rpartition("touch /tmp/hard")[2]
    assert guest.state == "running"


def test_a_shutdown_is_asked_of_the_guest(site: Site, guest: Guest) -> None:
    guest.run("true")
    guest.leave()
    operation = guest.do("shutdown", timeout_seconds=60)
    assert operation.progress == 100
    assert guest.state == "stopped"
    assert guest.running_on == []
    assert guest.defined_on == ["kvm1"]
    with expect_refusal(409, "stopped", "start"):
        guest.begin("shutdown")
    with expect_refusal(409, "stopped"):
        guest.begin("reboot")


def test_it_starts_again_and_stops_at_once(guest: Guest) -> None:
    guest.do("start")
    assert guest.running_on == ["kvm1"]
    guest.do("stop")
    assert guest.state == "stopped"
    assert guest.running_on == []


def test_a_name_is_taken_once(site: Site, guest: Guest) -> None:
    with expect_refusal(409, NAME):
        site.create(NAME, "kvm2", start=False)


def test_a_command_that_is_sent_twice_is_done_once(site: Site, guest: Guest) -> None:
    key = new_id()
    for _ in range(2):
        answer = site.gateway.request("POST", f"{guest.path}/start", {}, headers={"Idempotency-Key": str(key)})
        assert answer.json()["id"] == str(key)
    site.gateway.finish(site.gateway.operation(key))
    guest.do("stop")
    assert sum(operation.id == key for operation in site.gateway.operations(guest.id)) == 1


def test_nothing_of_a_deleted_one_is_left(site: Site, guest: Guest) -> None:
    (nic,) = guest.view().nics
    assert site.volumes("kvm1")
    guest.delete()
    assert site.volumes("kvm1") == set()
    assert guest.defined_on == []
    assert guest.state == "deleted"
    with expect_refusal(404):
        site.gateway.partition(NAME)
    mac = site.gateway.mac(nic.mac)
    assert mac is not None
    assert mac.state is MacState.QUARANTINED


def test_its_name_is_free_again_and_the_scheduler_chooses(site: Site, guest: Guest) -> None:
    again = site.guest(NAME, None, start=False, networks=[BRIDGED])
    assert again.id != guest.id
    assert again.view().host_name in ("kvm1", "kvm2", "kvm3")
    again.delete()
