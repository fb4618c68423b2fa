"""Thousands of reports wait for an inventory that was away and is killed in the middle: it ends where the last lead."""

import asyncio

from support.control_plane import ControlPlane
from support.invariants import broken_invariants
from support.inventory_process import kill, start_inventory_process

from openqrm.bus.streams import EVENTS
from openqrm.contracts.dead_letter import ListDeadLetters
from openqrm.contracts.message import INVENTORY
from openqrm.contracts.partition import ObservedNic, ObservedPartition, PartitionEvent, PartitionObserved, PartitionView
from openqrm.contracts.states import ObservedState
from openqrm.testkit.waiting import eventually_async

HOSTS = 3
PARTITIONS = 24
ROUNDS = 150
UNSTORABLE = (ObservedNic(mac="02:fa:4e:ff:ff:ff", bridge="br\x00"),)
STATES = {"running": ObservedState.RUNNING, "paused": ObservedState.PAUSED, "stopped": ObservedState.STOPPED}


def seen(view: PartitionView, state: str) -> ObservedPartition:
    return ObservedPartition(
        id=view.id,
        name=view.name,
        state=STATES[state],
        epoch=view.epoch,
        memory_mib=view.memory_mib,
        memory_max_mib=view.memory_max_mib,
        vcpus=view.vcpus,
        vcpus_max=view.vcpus_max,
        nics=tuple(ObservedNic(mac=nic.mac, bridge="br0") for nic in view.nics),
    )


def observation(
    plane: ControlPlane, view: PartitionView, observed: ObservedPartition, reason: str
) -> PartitionObserved:
    return PartitionObserved(
        host_id=view.host_id, partition_id=view.id, observed=observed, reason=reason, observed_at=plane.clock.now()
    )


async def waiting(plane: ControlPlane) -> int:
    provisioner = plane.bus("provisioner")
    await provisioner.connect()
    try:
        info = await provisioner.js.consumer_info(EVENTS, INVENTORY)
        return info.num_pending + info.num_ack_pending
    finally:
        await provisioner.stop()


async def test_a_backlog_with_a_kill_in_the_middle(plane: ControlPlane) -> None:
    hosts = [await plane.ready_host(f"b{number}", "cpus=64&memory_mib=262144") for number in range(HOSTS)]
    views = [
        await plane.make(f"backlog {number}", host=hosts[number % HOSTS].name, start=True)
        for number in range(PARTITIONS)
    ]
    await plane.executor.stop()
    await plane.inventory.stop()
    executor = plane.bus("executor-fake")
    await executor.connect()
    wanted = {}
    count = 0
    bad_ones = set()
    for round_ in range(ROUNDS):
        told = []
        for number, view in enumerate(views):
            ends = round_ == ROUNDS - 1 and number % 3 == 2
            wanted[view.id] = "stopped" if ends else ("running", "paused")[(round_ + number) % 2]
            observed = seen(view, wanted[view.id])
            told.append(observation(plane, view, observed, "shutdown" if ends else "by hand"))
        await asyncio.gather(*map(executor.publish, told))
        count += len(told)
        if round_ % 50 == 20:
            bad_ones.add(f"unreadable {round_}")
            headers = {"Nats-Msg-Id": f"unreadable {round_}"}
            await executor.publish_kept(PartitionObserved.subject, headers, b'{"host_id": 1')
    for view in views[:2]:  # the newest of all, and it cannot be stored
        bad = seen(view, wanted[view.id]).model_copy(update={"nics": UNSTORABLE})
        subject, headers, body = executor.prepare(observation(plane, view, bad, "by hand"), view.id)
        bad_ones.add(headers["Nats-Msg-Id"])
        await executor.publish_kept(subject, headers, body)
    await executor.stop()
    process = await start_inventory_process(plane)
    try:
        for share in (0.7, 0.3):

            async def is_so_far(share: float = share) -> bool:
                return await waiting(plane) < share * count

            await plane.until(is_so_far)
            await kill(process)
            process = await start_inventory_process(plane)

        async def nothing_waits() -> bool:
            return await waiting(plane) == 0

        async def all_letters_are_there() -> bool:
            letters = (await plane.ask(ListDeadLetters())).items
            # Killed between a letter and the end of its message, inventory writes another one.
            return {letter.headers["Nats-Msg-Id"] for letter in letters} == bad_ones

        # What the killed ones had in hand is delivered again after its ack wait of 30 s.
        await eventually_async(nothing_waits, 120, "everything is settled")
        await plane.until(all_letters_are_there)
        for view in views:
            assert (await plane.partition(str(view.id))).state == wanted[view.id], view.name
    finally:
        await kill(process)
        await plane.start_inventory()
        await plane.start_executor()
    facts = [event for _, event in plane.events if isinstance(event, PartitionEvent)]
    assert len(facts) < count / 2, "what was superseded is not told"
    assert await broken_invariants(plane) == []
    assert plane.deadlocks() == []
