"""Hosts are learned, connected, heard, read and found again."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from openqrm.contracts.host import (
    HostConnected,
    HostConnection,
    HostDisconnected,
    HostEnrolled,
    HostHeartbeat,
    HostObserved,
    HostRemoved,
)
from openqrm.contracts.partition import PartitionObserved
from openqrm.contracts.states import HostState, ObservedState
from openqrm.contracts.technology import ExecutorAnnounced
from openqrm.driver.executor import ExecutorService
from openqrm.driver.manifest import load_manifest
from openqrm.executor_fake.driver import FakeDriver
from openqrm.testkit.waiting import eventually


def _about(bench: Any, model: type, view: Any) -> list[Any]:
    return [event for event in bench.inventory.heard(model) if event.host_id == view.id]


async def test_an_executor_announces_itself(bench: Any) -> None:
    await bench.executor()
    await bench.inventory.until(lambda: bench.inventory.heard(ExecutorAnnounced))
    (announced,) = bench.inventory.heard(ExecutorAnnounced)
    assert announced.manifest == load_manifest("openqrm.executor_fake")
    assert announced.version == "1.2.3"


async def test_a_driver_that_is_not_what_it_declares_does_not_start(bench: Any) -> None:
    manifest = load_manifest("openqrm.executor_fake")
    less = manifest.model_copy(update={"capabilities": manifest.capabilities - {"pause"}})
    with pytest.raises(TypeError, match="Pause is there"):
        await bench.executor(manifest=less)
    with pytest.raises(ValueError, match="executor-fake"):
        ExecutorService(FakeDriver(bench.world, bench.clock), manifest, bench.server.bus("other"), bench.clock)


async def test_all_pages_of_hosts_are_read_and_other_technologies_are_not(bench: Any) -> None:
    bench.inventory.page_size = 3
    views = [bench.host(f"h{number}") for number in range(10)]
    other = bench.host("other")
    bench.inventory.hosts[other.id] = other.model_copy(update={"technology": "qemu"})
    service = await bench.executor()
    await bench.connected(*views)
    assert len(service.hosts) == 10


async def test_hosts_come_change_and_go_by_events(bench: Any) -> None:
    service = await bench.executor()
    await eventually(lambda: service.is_ready)
    view = bench.host("late")
    await bench.inventory.announce(HostEnrolled, view)
    await bench.connected(view)
    changed = await bench.inventory.change(view.id, name="renamed")
    await eventually(lambda: service.hosts.get(view.id).host.name == "renamed")
    await bench.inventory.announce(HostEnrolled, view.model_copy(update={"name": "from the past"}))
    removed = changed.model_copy(update={"revision": 9, "state": HostState.REMOVED})
    await bench.inventory.announce(HostRemoved, removed)
    await eventually(lambda: service.hosts.get(view.id) is None)
    await bench.inventory.announce(HostEnrolled, view)
    await bench.clock.sleep(0.2)
    assert service.hosts.get(view.id) is None, "an old event does not bring it back"


async def test_hosts_are_learned_when_inventory_starts_later(bench: Any) -> None:
    await bench.inventory.bus.stop()
    view = bench.host("h1")
    service = await bench.executor()
    await bench.clock.sleep(0.3)
    assert not service.is_ready
    from openqrm.testkit.inventory import InventoryStub

    stub = InventoryStub(bench.server, bench.clock)
    stub.hosts = {view.id: view}
    bench.inventory = stub
    await stub.start()
    await bench.connected(view)
    assert service.is_ready


async def test_one_that_was_removed_unheard_is_noticed_in_the_list(bench: Any) -> None:
    (view,) = await bench.ready(relist_interval=0.2)
    del bench.inventory.hosts[view.id]
    await eventually(lambda: len(bench.executors[0].hosts) == 0)


async def test_a_host_is_told_connected_once_and_observed(bench: Any) -> None:
    (view,) = await bench.ready()
    await bench.inventory.until(lambda: _about(bench, HostObserved, view))
    await bench.clock.sleep(0.5)  # several readings, none of them news
    assert len(_about(bench, HostConnected, view)) == 1
    assert len(_about(bench, HostObserved, view)) == 1
    assert _about(bench, HostObserved, view)[0].facts.cpus == 16
    assert _about(bench, HostDisconnected, view) == []


async def test_everything_is_told_now_and_then(bench: Any) -> None:
    (view,) = await bench.ready(full_observation_interval=0.2)
    await bench.inventory.until(lambda: len(_about(bench, HostObserved, view)) >= 3)


async def test_a_host_that_does_not_answer_is_told_once_until_it_does(bench: Any) -> None:
    view = bench.host("h1")
    bench.fake(view).lose()
    await bench.executor()
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, view))
    await bench.clock.sleep(0.5)
    (lost,) = _about(bench, HostDisconnected, view)
    assert "does not answer" in lost.reason
    bench.fake(view).find()
    await bench.connected(view)


async def test_a_lost_host_is_told_and_found_again(bench: Any) -> None:
    (view,) = await bench.ready()
    await bench.inventory.until(lambda: _about(bench, HostObserved, view))
    bench.fake(view).lose()
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, view))
    bench.fake(view).find()
    await bench.inventory.until(lambda: len(_about(bench, HostConnected, view)) == 2)
    await bench.inventory.until(lambda: len(_about(bench, HostObserved, view)) == 2, what="a whole reading")


async def test_a_host_that_hangs_is_lost(bench: Any) -> None:
    (view,) = await bench.ready()
    bench.fake(view).hang()
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, view))
    assert "did not answer within" in _about(bench, HostDisconnected, view)[0].reason
    bench.fake(view).recover()
    await bench.inventory.until(lambda: len(_about(bench, HostConnected, view)) == 2)


async def test_one_lost_ping_is_no_lost_host(bench: Any) -> None:
    (view,) = await bench.ready(ping_failures=3)
    fake = bench.fake(view)
    fake.hang("ping")
    await bench.clock.sleep(0.4)
    fake.recover()
    await bench.clock.sleep(0.5)
    assert _about(bench, HostDisconnected, view) == []


async def test_heartbeats_come_while_it_answers(bench: Any) -> None:
    beats: list[HostHeartbeat] = []

    async def hear(beat: HostHeartbeat) -> None:
        beats.append(beat)

    await bench.inventory.bus.listen(HostHeartbeat, hear)
    (view,) = await bench.ready()
    await eventually(lambda: len(beats) >= 3)
    assert {(beat.host_id, beat.technology) for beat in beats} == {(view.id, "fake")}
    bench.fake(view).lose()
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, view))
    heard = len(beats)
    await bench.clock.sleep(0.5)
    assert len(beats) == heard


async def test_a_change_by_itself_is_told_at_once_and_only_once(bench: Any) -> None:
    (view,) = await bench.ready(observe_interval=0.3)
    partition = await bench.run(view)
    await bench.clock.sleep(0.5)
    before = len(_about(bench, HostObserved, view))
    bench.fake(view).crash(partition.id)
    await bench.inventory.until(lambda: bench.inventory.heard(PartitionObserved))
    await bench.clock.sleep(0.5)
    (told,) = bench.inventory.heard(PartitionObserved)
    assert (told.partition_id, told.observed.state, told.reason) == (partition.id, ObservedState.CRASHED, "crashed")
    assert len(_about(bench, HostObserved, view)) == before, "what was told is no news for the next reading"


async def test_a_change_that_watching_misses_is_seen_by_the_next_reading(bench: Any) -> None:
    (view,) = await bench.ready()
    await bench.inventory.until(lambda: _about(bench, HostObserved, view))
    bench.fake(view)._watchers.clear()
    stranger = bench.fake(view).add_stranger("by hand")
    await bench.inventory.until(lambda: len(_about(bench, HostObserved, view)) == 2)
    (seen,) = _about(bench, HostObserved, view)[1].partitions
    assert (seen.id, seen.epoch) == (stranger, None)


async def test_what_an_execution_did_is_no_news(bench: Any) -> None:
    (view,) = await bench.ready(observe_interval=0.2)
    await bench.inventory.until(lambda: _about(bench, HostObserved, view))
    await bench.run(view)
    await bench.clock.sleep(0.5)
    assert len(_about(bench, HostObserved, view)) == 1


async def test_a_new_address_means_a_new_connection(bench: Any) -> None:
    (view,) = await bench.ready()
    await bench.inventory.until(lambda: _about(bench, HostObserved, view))
    await bench.inventory.change(view.id, connection=HostConnection(uri="fake://elsewhere?cpus=3"))
    await bench.inventory.until(lambda: len(_about(bench, HostObserved, view)) == 2)
    assert _about(bench, HostObserved, view)[1].facts.hostname == "elsewhere"
    assert _about(bench, HostDisconnected, view) == []


async def test_a_host_that_refuses_is_tried_again_when_it_is_changed(bench: Any) -> None:
    view = bench.host("h1", "?refuse=wrong+key")
    await bench.executor(reconnect_longest=600)
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, view))
    assert "wrong key" in _about(bench, HostDisconnected, view)[0].reason
    await bench.inventory.change(view.id, connection=HostConnection(uri="fake://h2"))
    await bench.connected(view)


async def test_hosts_are_counted(bench: Any) -> None:
    good, dark = bench.host("good"), bench.host("dark", "?unreachable=yes")
    await bench.executor()
    await bench.connected(good)
    await bench.inventory.until(lambda: _about(bench, HostDisconnected, dark))

    def count(reachable: str) -> float | None:
        return REGISTRY.get_sample_value("openqrm_executor_hosts", {"service": "executor-fake", "reachable": reachable})

    assert (count("yes"), count("no")) == (1, 1)


async def test_a_thousand_hosts_in_one_process(bench: Any) -> None:
    views = [bench.host(f"h{number}") for number in range(1000)]
    dark = views[::50]
    for view in dark:
        bench.fake(view).hang()
    began = bench.clock.monotonic()
    service = await bench.executor(ping_interval=5, observe_interval=30, ping_timeout=10, connect_timeout=30)
    connected = [view for view in views if view not in dark]
    await bench.inventory.until(lambda: len(bench.inventory.heard(HostObserved)) >= len(connected), 25)
    assert len(service.hosts) == 1000
    assert bench.clock.monotonic() - began < 20, "hosts that hang do not hold up the others"
    partition = await bench.run(connected[-1])
    assert bench.fake(connected[-1]).get(partition.id).state is ObservedState.RUNNING
