"""The product stops, or is killed, while guests run: they run on, are found again, and nothing is started twice."""

import signal

import pytest
from product import Guest, Site, wait_until

from openqrm.contracts.states import FINAL_OPERATION_STATES, HostState

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def guests(site: Site) -> list[Guest]:
    """Running guests on two hosts."""
    return site.guests(("left behind", "kvm1"), ("moved", "kvm2"))


def wait_for_everything(site: Site) -> None:
    """Wait until the product serves and has found all its hosts again."""
    wait_until(site.gateway.is_there, 60, "the gateway and inventory answer")
    for name in site.libvirt_hosts:
        site.wait_for_host(name, HostState.READY, 90)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["asked to stop", "killed"])
def test_guests_run_on_and_are_found_again(site: Site, guests: list[Guest], number: signal.Signals) -> None:
    processes = [guest.process(guest.host) for guest in guests]
    before = {guest.id: [operation.id for operation in site.gateway.operations(guest.id)] for guest in guests}
    places = {guest.id: guest.host for guest in guests}
    site.product.stop(number)
    for guest in guests:
        assert guest.running_on == [places[guest.id]]
    site.product.start()
    wait_for_everything(site)
    wait_until(lambda: {guest.state for guest in guests} == {"running"}, 60, "the guests are found again")
    assert [guest.process(guest.host) for guest in guests] == processes
    assert {guest.id: [operation.id for operation in site.gateway.operations(guest.id)] for guest in guests} == before
    guests[0].do("pause")
    guests[0].do("unpause")


def test_killed_in_the_middle_of_a_move(site: Site, guests: list[Guest]) -> None:
    guest = guests[1]
    guest.shell()  # it has booted: its memory is worth a move
    guest.leave()
    operation = guest.begin("migrate", host="kvm3", bandwidth_mib_s=10)

    def goes() -> bool:
        return "Time elapsed" in site.lab.run("kvm2", ["virsh", "-q", "domjobinfo", str(guest.id)])

    wait_until(goes, 30, "the migration is under way")
    site.product.stop(signal.SIGKILL)
    site.product.start()
    wait_for_everything(site)
    ended = site.gateway.end(operation, 180)
    assert ended.state in FINAL_OPERATION_STATES
    wait_until(lambda: guest.state == "running", 60, "its state is known")
    assert guest.running_on == [guest.host]
    assert guest.defined_on == [guest.host]
    assert guest.run("uname -s") == "Linux"
    guest.leave()


def test_killed_while_it_makes_a_guest(site: Site) -> None:
    guest, operation = site.create("half made", "kvm1")
    site.product.stop(signal.SIGKILL)
    site.product.start()
    wait_for_everything(site)
    site.gateway.finish(operation, 120)
    assert guest.state == "running"
    assert guest.running_on == ["kvm1"]
    assert len([partition for partition in site.gateway.partitions() if partition.name == "half made"]) == 1
