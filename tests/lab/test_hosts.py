"""Hosts: reached or told why not, prepared, drained, taken back, removed."""

from typing import Any

import pytest
from product import BRIDGED, ISOLATED, Guest, OperationFailedError, Site, expect_failure, expect_refusal, wait_until

from openqrm.contracts.operation import OperationView
from openqrm.contracts.states import HostState

pytestmark = pytest.mark.lab

NOBODY = "10.77.0.99"
MORE_ADDRESSES = [f"10.77.0.{number}" for number in range(90, 95)]
"""kvm3 answers at these as well, and its certificate names none of them."""


def changes(operation: OperationView) -> dict[str, str]:
    """What host.prepare says that it changed."""
    listed: Any = operation.result["changes"]
    return {change["what"]: change["after"] for change in listed}


# ------------------------------------------------------------------------------------------------ reaching


def test_a_host_that_cannot_be_used_is_told_why(site: Site) -> None:
    for address in MORE_ADDRESSES:
        site.lab.run("kvm3", ["ip", "addr", "add", f"{address}/24", "dev", "br0"])
    at = iter(MORE_ADDRESSES)
    right, other = site.host_key("kvm3"), site.host_key("kvm1")
    wrong: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
        "nobody there": (f"qemu+ssh://root@{NOBODY}/system", right, ("nobody there", NOBODY)),
        "another key": (f"qemu+ssh://root@{next(at)}/system", other, ("SHA256:", "does not show the SSH key")),
        "no key": (f"qemu+ssh://root@{next(at)}/system", None, ("SHA256:", "no accepted SSH key")),
        "another user": (f"qemu+ssh://nobody@{next(at)}/system", right, ("nobody", "authorized_keys")),
        "another name": (f"qemu+tls://{next(at)}/system", None, ("certificate", "not valid")),
        "in plain": (f"qemu+tcp://{next(at)}/system", None, ("encrypted", "qemu+ssh")),
    }
    begun = {
        name: site.gateway.begin(
            "POST", "/hosts", {"name": name, "technology": "qemu", "connection": {"uri": uri, "host_key": key}}
        )
        for name, (uri, key, _) in wrong.items()
    }
    for name, operation in begun.items():
        with expect_failure(*wrong[name][2]):
            site.gateway.finish(operation, 120)
        host = site.gateway.host(name)
        assert host.state is HostState.ENROLLED
        assert host.state_reason
        site.gateway.do("DELETE", f"/hosts/{host.id}")
        with expect_refusal(404):
            site.gateway.host(name)


def test_an_address_of_no_kind_is_refused(site: Site) -> None:
    body = {"name": "odd", "technology": "qemu", "connection": {"uri": "http://kvm1/"}}
    with expect_refusal(422, "qemu+ssh"):
        site.gateway.begin("POST", "/hosts", body)


def test_a_host_is_enrolled_once(site: Site) -> None:
    with expect_refusal(409, "address", "kvm2"):
        site.gateway.begin("POST", "/hosts", {**site.enrolment("kvm2", "ssh"), "name": "kvm2 again"})
    with expect_refusal(409, "name"):
        site.gateway.begin("POST", "/hosts", {**site.enrolment("bare", "ssh"), "name": "kvm1"})


# ------------------------------------------------------------------------------------------------ preparing


def test_a_bare_host_is_prepared(site: Site) -> None:
    body = site.enrolment("bare", "ssh", bridge="br0", bridge_uplink="eth0")
    with expect_failure("libvirt", "prepare"):
        site.gateway.do("POST", "/hosts", body)
    assert site.gateway.host("bare").state is HostState.ENROLLED
    done = changes(site.host_do("bare", "prepare"))
    assert "started" in done["libvirtd"]
    assert "made" in done["folder /lab/local/disks"]
    assert "eth0" in done["bridge br0"]
    site.libvirt_hosts.append("bare")
    host = site.gateway.host("bare")
    assert host.state is HostState.READY
    assert host.facts is not None
    assert "br0" in host.facts.bridges
    # The address that we came in by has moved to the bridge.
    assert site.lab.members["bare"].address in site.lab.run("bare", ["ip", "-4", "addr", "show", "br0"])
    assert site.lab.members["bare"].address not in site.lab.run("bare", ["ip", "-4", "addr", "show", "eth0"])


def test_preparing_it_again_changes_nothing(site: Site) -> None:
    with expect_refusal(409, "ready", "maintain"):
        site.host_do("bare", "prepare")
    site.host_do("bare", "maintain")
    assert changes(site.host_do("bare", "prepare")) == {}
    assert site.gateway.host("bare").state is HostState.READY


def test_a_guest_runs_on_the_prepared_host(site: Site) -> None:
    guest = site.guest("on bare", "bare")
    assert guest.run("uname -s") == "Linux"
    assert guest.running_on == ["bare"]
    with expect_refusal(409, "carries 1 partition"):
        site.gateway.begin("DELETE", "/hosts/bare")
    with pytest.raises(OperationFailedError, match=r"bridge|network"):
        site.guest("elsewhere", "bare", networks=[ISOLATED])
    guest.leave()
    guest.delete(force=True)


def test_an_empty_host_is_removed(site: Site) -> None:
    site.gateway.do("DELETE", "/hosts/bare")
    with expect_refusal(404):
        site.gateway.host("bare")
    site.libvirt_hosts.remove("bare")


# ------------------------------------------------------------------------------------------------ draining


@pytest.fixture(scope="module")
def pair(site: Site) -> list[Guest]:
    """Two running guests on kvm1."""
    guests = site.guests(("one of two", "kvm1"), ("two of two", "kvm1"))
    for guest in guests:
        guest.shell().start("n=0; while :; do n=$((n + 1)); echo $n; sleep 1; done", "count")
        guest.leave()
    return guests


def test_maintenance_moves_everything_away(site: Site, pair: list[Guest]) -> None:
    operation = site.host_do("kvm1", "maintain", evacuate=True)
    assert operation.progress == 100
    host = site.gateway.host("kvm1")
    assert (host.state, host.partitions, host.memory_reserved_mib) == (HostState.MAINTENANCE, 0, 0)
    for guest in pair:
        view = guest.view()
        assert view.state == "running"
        assert view.host_name in ("kvm2", "kvm3")
        assert guest.running_on == [view.host_name]
        assert guest.defined_on == [view.host_name]
        numbers = [int(line) for line in guest.run("cat /tmp/count").splitlines()]
        assert numbers == list(range(1, len(numbers) + 1))
        guest.leave()


def test_a_host_in_maintenance_takes_nothing(site: Site, pair: list[Guest]) -> None:
    with pytest.raises(OperationFailedError, match="maintenance"):
        site.guest("refused", "kvm1", networks=[BRIDGED])
    with pytest.raises(OperationFailedError, match="maintenance"):
        pair[0].do("migrate", host="kvm1")
    assert pair[0].state == "running"


def test_it_takes_partitions_again_when_activated(site: Site, pair: list[Guest]) -> None:
    site.host_do("kvm1", "activate")
    assert site.gateway.host("kvm1").state is HostState.READY
    pair[0].do("migrate", host="kvm1")
    assert pair[0].running_on == ["kvm1"]


def test_maintenance_without_evacuation_lets_them_run(site: Site, pair: list[Guest]) -> None:
    site.host_do("kvm1", "maintain")
    pair[0].do("pause")
    pair[0].do("unpause")
    assert pair[0].running_on == ["kvm1"]
    site.host_do("kvm1", "activate")
    wait_until(lambda: site.gateway.host("kvm1").state is HostState.READY, 10, "kvm1 is ready")
