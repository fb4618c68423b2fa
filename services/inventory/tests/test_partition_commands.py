"""Each command on a partition: what it does, what it tells, what it refuses."""

import pytest
from support.expectations import done, refused

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.host import HostView
from openqrm.contracts.ids import new_id
from openqrm.contracts.image import DeleteImage, RegisterImage
from openqrm.contracts.network import CreateNetwork
from openqrm.contracts.partition import (
    AdoptPartition,
    AttachDisk,
    AttachNic,
    BlankDisk,
    ChangePartition,
    CrashPolicy,
    CreatePartition,
    DeletePartition,
    DetachDisk,
    DetachNic,
    DiskSpec,
    FileDisk,
    ImageDisk,
    ListStrangers,
    MapNic,
    MigratePartition,
    NetworkDisk,
    NicSpec,
    PausePartition,
    PinPartition,
    RebootPartition,
    ResizePartition,
    ShutdownPartition,
    StartPartition,
    StopPartition,
    UnpausePartition,
)

DISK = DiskSpec(source=BlankDisk(size_mib=64))
NIC = NicSpec(network="default")


async def running(plane, name: str, host: HostView, **wishes):
    return await plane.make(name, host=host.name, start=True, **wishes)


# ------------------------------------------------------------------------------------------------ create


async def test_create_partition(plane, name, host):
    command = CreatePartition(
        name=name, technology="any", host=host.name, memory_mib=512, vcpus=2, disks=(DISK,), nics=(NIC,), tags=("a",)
    )
    ended = await plane.run(command)
    await done(plane, ended, "partition.created")
    view = await plane.partition(name)
    assert (view.id, view.state, view.technology, view.host_name) == (
        command.partition_id,
        "stopped",
        "fake",
        host.name,
    )
    assert view.nics[0].mac.startswith("02:fa:4e")
    assert view.disks[0].target == "vda"
    after = await plane.host(host.name)
    assert (after.memory_reserved_mib, after.cpus_reserved, after.partitions) == (512, 2, 1)
    assert plane.fake(host).get(view.id).epoch == 1


async def test_create_partition_started(plane, name, host):
    ended = await plane.run(CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64, start=True))
    await done(plane, ended, "partition.created", "partition.started")
    assert (await plane.partition(name)).desired_state == "running"


@pytest.mark.parametrize(
    ("wish", "code", "words"),
    [
        ({"technology": "vax"}, ProblemCode.NOT_FOUND, ["vax"]),
        ({"host": "nowhere"}, ProblemCode.NOT_FOUND, ["nowhere"]),
        ({"nics": (NicSpec(network="no net"),)}, ProblemCode.NOT_FOUND, ["no net"]),
        ({"disks": (DiskSpec(source=ImageDisk(image="no image")),)}, ProblemCode.NOT_FOUND, ["no image"]),
        ({"memory_max_mib": 100}, ProblemCode.INVALID, ["memory_max_mib", "100", "512"]),
        ({"vcpus": 4, "vcpus_max": 2}, ProblemCode.INVALID, ["vcpus_max"]),
        (
            {"disks": (DiskSpec(source=NetworkDisk(protocol="nfs", server="a", volume="/x", username="u")),)},
            ProblemCode.INVALID,
            ["iSCSI"],
        ),
        ({"technology": "fake", "nics": (NicSpec(network="default", mac="02:fa:4e:00:00:01"),) * 2},
         ProblemCode.DUPLICATE, ["02:fa:4e:00:00:01"]),
    ],
)  # fmt: skip
async def test_create_partition_refuses(plane, name, wish, code, words):
    ended = await plane.run(CreatePartition(**{"name": name, "memory_mib": 512, **wish}))
    refused(ended, code, *words)
    again = await plane.run(CreatePartition(name=name, memory_mib=512, host="nowhere"))
    refused(again, ProblemCode.NOT_FOUND, "nowhere")  # and not the name: nothing of the first one was kept


async def test_create_partition_takes_a_name_and_an_id_once(plane, name, host):
    first = await plane.make(name, host=host.name)
    refused(await plane.run(CreatePartition(name=name, memory_mib=64)), ProblemCode.DUPLICATE, "name")
    same_id = CreatePartition(name=f"{name} 2", memory_mib=64, partition_id=first.id)
    refused(await plane.run(same_id), ProblemCode.DUPLICATE, "id")
    await plane.run(DeletePartition(partition=name))
    await plane.make(name, host=host.name)  # what is deleted gives its name back, not its id
    refused(await plane.run(same_id.model_copy(update={"operation_id": new_id()})), ProblemCode.DUPLICATE, "id")


async def test_create_partition_fails_and_is_undone(plane, name, host):
    name = f"{name} !create-fails"
    ended = await plane.run(
        CreatePartition(name=name, technology="fake", host=host.name, memory_mib=512, disks=(DISK,), nics=(NIC,))
    )
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.DRIVER_FAILED)
    await plane.told(ended, "partition.deleted")
    assert (await plane.host(host.name)).memory_reserved_mib == 0
    assert plane.fake(host).read().partitions == {}


async def test_create_partition_stays_when_only_its_start_fails(plane, name, host):
    name = f"{name} !start-fails=1"
    ended = await plane.run(CreatePartition(name=name, technology="fake", host=host.name, memory_mib=64, start=True))
    assert ended.state == "failed"
    view = await plane.partition(name)
    assert (view.state, view.desired_state) == ("stopped", "stopped")
    await done(plane, await plane.run(StartPartition(partition=name)), "partition.started")


async def test_create_partition_keeps_any_name_of_200_characters(plane, host):
    name = "𝔘𝔫𝔦 " + "ü" * 195 + "☃"
    await plane.make(name, host=host.name)
    await done(plane, await plane.run(StartPartition(partition=name)), "partition.started")
    await done(plane, await plane.run(DeletePartition(partition=name, force=True)), "partition.deleted")


# ------------------------------------------------------------------------------------------------ life


async def test_start_partition(plane, name, host):
    await plane.make(name, host=host.name)
    ended = await plane.run(StartPartition(partition=name))
    await done(plane, ended, "partition.started")
    view = await plane.partition(name)
    assert (view.state, view.desired_state, view.operation_id) == ("running", "running", None)
    refused(await plane.run(StartPartition(partition=name)), ProblemCode.WRONG_STATE, "running", "stop")


async def test_start_partition_defines_a_missing_one_anew(plane, name, host):
    view = await plane.make(name, host=host.name)
    plane.fake(host).remove_by_hand(view.id)
    await plane.event("partition.vanished")
    await done(plane, await plane.run(StartPartition(partition=name)), "partition.started")
    assert plane.fake(host).get(view.id).runs


async def test_start_partition_fails_and_it_is_what_it_was(plane, name, host):
    name = f"{name} !start-fails"
    await plane.make(name, host=host.name)
    ended = await plane.run(StartPartition(partition=name))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.DRIVER_FAILED)
    view = await plane.partition(name)
    assert (view.state, view.desired_state) == ("stopped", "stopped")


async def test_start_partition_refuses_what_is_in_memory_elsewhere(plane, name, host, other):
    view = await plane.make(name, host=host.name)
    stray = plane.fake(host).get(view.id).model_copy(deep=True)
    with plane.fake(other).change() as content:
        content.partitions[view.id] = stray
    plane.fake(other).switch_on(view.id)
    await plane.event("partition.discovered", host_id=other.id)
    refused(await plane.run(StartPartition(partition=name)), ProblemCode.CONFLICT, other.name, "twice")
    plane.fake(other).remove_by_hand(view.id)
    await plane.until(lambda: no_strangers(plane, other))
    await done(plane, await plane.run(StartPartition(partition=name)), "partition.started")


async def no_strangers(plane, host) -> bool:
    return not (await plane.ask(ListStrangers(host=host.name))).items


async def test_stop_partition(plane, name, host):
    await running(plane, name, host)
    await done(plane, await plane.run(StopPartition(partition=name)), "partition.stopped")
    view = await plane.partition(name)
    assert (view.state, view.desired_state) == ("stopped", "stopped")
    refused(await plane.run(StopPartition(partition=name)), ProblemCode.WRONG_STATE, "stopped", "start")


async def test_shutdown_partition(plane, name, host):
    await running(plane, name, host)
    await done(plane, await plane.run(ShutdownPartition(partition=name)), "partition.stopped")
    refused(await plane.run(ShutdownPartition(partition=name)), ProblemCode.WRONG_STATE)


async def test_shutdown_partition_times_out_or_forces(plane, name, host):
    name = f"{name} !ignores-shutdown"
    await running(plane, name, host)
    ended = await plane.run(ShutdownPartition(partition=name, timeout_seconds=1))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.TIMED_OUT)
    assert (await plane.partition(name)).state == "running"
    forced = await plane.run(ShutdownPartition(partition=name, timeout_seconds=1, force=True))
    await done(plane, forced, "partition.stopped")


async def test_reboot_partition(plane, name, host):
    view = await running(plane, name, host)
    for hard in (False, True):
        await done(plane, await plane.run(RebootPartition(partition=name, hard=hard)), "partition.rebooted")
    assert plane.fake(host).get(view.id).starts == 3
    await plane.run(StopPartition(partition=name))
    refused(await plane.run(RebootPartition(partition=name)), ProblemCode.WRONG_STATE)


async def test_pause_partition(plane, name, host):
    await running(plane, name, host)
    await done(plane, await plane.run(PausePartition(partition=name)), "partition.paused")
    assert (await plane.partition(name)).desired_state == "paused"
    refused(await plane.run(PausePartition(partition=name)), ProblemCode.WRONG_STATE, "unpause")


async def test_unpause_partition(plane, name, host):
    await running(plane, name, host)
    refused(await plane.run(UnpausePartition(partition=name)), ProblemCode.WRONG_STATE)
    await plane.run(PausePartition(partition=name))
    await done(plane, await plane.run(UnpausePartition(partition=name)), "partition.unpaused")


# ------------------------------------------------------------------------------------------------ size


async def test_resize_partition(plane, name, host):
    await running(plane, name, host, memory_max_mib=1024, vcpus_max=4)
    await done(plane, await plane.run(ResizePartition(partition=name, memory_mib=768, vcpus=3)), "partition.resized")
    assert ((await plane.host(host.name)).memory_reserved_mib, (await plane.host(host.name)).cpus_reserved) == (768, 3)
    await done(plane, await plane.run(ResizePartition(partition=name, memory_mib=128, vcpus=4)), "partition.resized")
    after = await plane.host(host.name)
    assert (after.memory_reserved_mib, after.cpus_reserved) == (128, 4)
    assert (await plane.partition(name)).drift == ()


async def test_resize_partition_refuses(plane, name, host):
    await running(plane, name, host, memory_max_mib=1024)
    refused(await plane.run(ResizePartition(partition=name, memory_mib=2048)), ProblemCode.INVALID, "1024", "stop it")
    refused(await plane.run(ResizePartition(partition=name, memory_max_mib=4096)), ProblemCode.INVALID, "stopped")
    await plane.run(StopPartition(partition=name))
    large = await plane.run(ResizePartition(partition=name, memory_mib=15_900))
    refused(large, ProblemCode.CONFLICT, "no room")
    await done(plane, await plane.run(ResizePartition(partition=name, memory_mib=4096)), "partition.resized")
    assert (await plane.partition(name)).memory_max_mib == 4096


async def test_resize_partition_fails_and_gives_back(plane, name, host):
    name = f"{name} !resize-fails"
    await plane.make(name, host=host.name, memory_mib=256)
    assert (await plane.run(ResizePartition(partition=name, memory_mib=1024, vcpus=4))).state == "failed"
    after = await plane.host(host.name)
    assert (after.memory_reserved_mib, after.cpus_reserved) == (256, 1)
    assert (await plane.partition(name)).memory_mib == 256


async def test_pin_partition(plane, name, host):
    view = await running(plane, name, host, vcpus=2)
    pins = {0: (3, 1, 3), 1: (2,)}
    await done(plane, await plane.run(PinPartition(partition=name, cpu_pins=pins)), "partition.pinned")
    assert (await plane.partition(name)).cpu_pins == {0: (1, 3), 1: (2,)}
    assert plane.fake(host).get(view.id).cpu_pins == {0: (1, 3), 1: (2,)}
    await done(plane, await plane.run(PinPartition(partition=name, cpu_pins={})), "partition.pinned")
    ended = await plane.run(PinPartition(partition=name, cpu_pins={9: (0,), 0: (8,), 1: ()}))
    refused(ended, ProblemCode.INVALID, "vCPU 9", "0 to 7")
    assert {problem.field for problem in ended.error.fields} == {"cpu_pins.9", "cpu_pins.0", "cpu_pins.1"}


# ------------------------------------------------------------------------------------------------ NICs and disks


async def test_attach_nic(plane, name, host):
    await running(plane, name, host)
    await done(plane, await plane.run(AttachNic(partition=name, nic=NIC)), "partition.nic_attached")
    wished = "02:fa:4e:aa:00:01"
    await plane.run(AttachNic(partition=name, nic=NicSpec(network="default", mac=wished)))
    view = await plane.partition(name)
    assert [nic.mac for nic in view.nics][1] == wished
    assert view.drift == ()
    again = await plane.run(AttachNic(partition=name, nic=NicSpec(network="default", mac=wished)))
    refused(again, ProblemCode.DUPLICATE, wished, "in use")
    refused(await plane.run(AttachNic(partition=name, nic=NicSpec(network="none"))), ProblemCode.NOT_FOUND, "none")


async def test_attach_nic_fails_and_its_address_rests(plane, name, host):
    name = f"{name} !attach_nic-fails"
    await running(plane, name, host)
    assert (await plane.run(AttachNic(partition=name, nic=NIC))).state == "failed"
    assert (await plane.partition(name)).nics == ()


async def test_detach_nic(plane, name, host):
    view = await running(plane, name, host, nics=(NIC, NIC))
    gone, stays = (nic.mac for nic in view.nics)
    await done(plane, await plane.run(DetachNic(partition=name, mac=gone)), "partition.nic_detached")
    assert [nic.mac for nic in (await plane.partition(name)).nics] == [stays]
    refused(await plane.run(DetachNic(partition=name, mac=gone)), ProblemCode.NOT_FOUND, gone, stays)


async def test_map_nic(plane, name, host):
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    view = await running(plane, name, host, nics=(NIC,))
    mac = view.nics[0].mac
    await done(plane, await plane.run(MapNic(partition=name, mac=mac, network=name)), "partition.nic_mapped")
    assert (await plane.partition(name)).nics[0].network_name == name
    assert plane.fake(host).get(view.id).nics[0].bridge == "br1"
    refused(await plane.run(MapNic(partition=name, mac=mac, network="x")), ProblemCode.NOT_FOUND)
    refused(await plane.run(MapNic(partition=name, mac="02:00:00:00:00:02", network=name)), ProblemCode.NOT_FOUND)


async def test_attach_disk(plane, name, host):
    await running(plane, name, host, disks=(DISK,))
    await done(plane, await plane.run(AttachDisk(partition=name, disk=DISK)), "partition.disk_attached")
    assert [disk.target for disk in (await plane.partition(name)).disks] == ["vda", "vdb"]
    missing = DiskSpec(source=ImageDisk(image="none"))
    refused(await plane.run(AttachDisk(partition=name, disk=missing)), ProblemCode.NOT_FOUND, "none")


async def test_attach_disk_made_from_an_image(plane, name, host):
    await plane.run(
        RegisterImage(
            name=name, format="qcow2", size_bytes=5, virtual_size_mib=100, sha256="0" * 64, location="file:///i.qcow2"
        )
    )
    await plane.make(name, host=host.name)
    small = DiskSpec(source=ImageDisk(image=name, size_mib=99))
    ended = await plane.run(AttachDisk(partition=name, disk=small))
    refused(ended, ProblemCode.INVALID, "100")
    assert ended.error.fields[0].limit == "100"
    await done(plane, await plane.run(AttachDisk(partition=name, disk=DiskSpec(source=ImageDisk(image=name)))),
         "partition.disk_attached")  # fmt: skip
    await plane.run(DeleteImage(image=name))
    await done(plane, await plane.run(StartPartition(partition=name)), "partition.started")


async def test_detach_disk(plane, name, host):
    view = await running(plane, name, host, disks=(DISK, DISK))
    await done(plane, await plane.run(DetachDisk(partition=name, target="vdb")), "partition.disk_detached")
    assert [disk.target for disk in (await plane.partition(name)).disks] == ["vda"]
    assert len(plane.fake(host).read().volumes) == 1
    refused(await plane.run(DetachDisk(partition=name, target="vdb")), ProblemCode.NOT_FOUND, "vdb", "vda")
    await plane.run(DetachDisk(partition=name, target="vda", keep=True))
    assert len(plane.fake(host).read().volumes) == 1
    assert plane.fake(host).get(view.id).disks == []


# ------------------------------------------------------------------------------------------------ words


async def test_change_partition(plane, name, host):
    before = await running(plane, name, host)
    change = ChangePartition(partition=name, name=f"{name} new", tags=("x",), on_crash=CrashPolicy.STAY)
    ended = await plane.run(change)
    assert ended.state == "succeeded"
    view = await plane.partition(f"{name} new")
    assert (view.id, view.tags, view.on_crash, view.state) == (before.id, ("x",), "stay", "running")
    assert view.revision == before.revision + 1
    refused(await plane.run(ChangePartition(partition=name, tags=())), ProblemCode.NOT_FOUND, name)


async def test_change_partition_refuses_a_name_that_is_taken(plane, name, host):
    await plane.make(name, host=host.name)
    await plane.make(f"{name} 2", host=host.name)
    refused(await plane.run(ChangePartition(partition=name, name=f"{name} 2")), ProblemCode.DUPLICATE)
    assert (await plane.partition(name)).name == name


async def test_change_partition_refuses_when_it_has_changed_since(plane, name, host):
    view = await plane.make(name, host=host.name)
    stale = ChangePartition(partition=name, tags=("a",), expected_revision=view.revision - 1)
    ended = await plane.run(stale)
    refused(ended, ProblemCode.PRECONDITION, str(view.revision))
    current = ChangePartition(partition=name, tags=("a",), expected_revision=view.revision)
    assert (await plane.run(current)).state == "succeeded"


# ------------------------------------------------------------------------------------------------ moving, removing


async def test_migrate_partition(plane, name, host, other):
    view = await running(plane, name, host, memory_mib=512)
    ended = await plane.run(MigratePartition(partition=name, host=other.name))
    await done(plane, ended, "partition.migrated")
    after = await plane.partition(name)
    assert (after.host_name, after.target_host_id, after.epoch, after.state) == (other.name, None, 2, "running")
    assert (await plane.host(host.name)).memory_reserved_mib == 0
    assert (await plane.host(other.name)).memory_reserved_mib == 512
    assert plane.fake(other).get(view.id).epoch == 2
    refused(await plane.run(MigratePartition(partition=name, host=other.name)), ProblemCode.CONFLICT, "already")
    refused(await plane.run(MigratePartition(partition=name, host="nowhere")), ProblemCode.NOT_FOUND)


async def test_migrate_partition_whose_disk_cannot_leave(plane, name, host, other):
    disk = DiskSpec(source=FileDisk(path="/srv/x.img"))
    await plane.make(name, host=host.name, disks=(disk,))
    ended = await plane.run(MigratePartition(partition=name, host=other.name))
    assert (ended.state, ended.error.code) == ("failed", ProblemCode.NO_FIT)
    assert ended.error.details["refused_by"] == {"shared-storage": 1}


async def test_delete_partition(plane, name, host):
    view = await plane.make(name, host=host.name, disks=(DISK,), nics=(NIC,))
    await done(plane, await plane.run(DeletePartition(partition=name)), "partition.deleted")
    gone = await plane.partition(str(view.id))
    assert (gone.state, gone.host_id, gone.desired_state) == ("deleted", None, "deleted")
    assert (await plane.host(host.name)).partitions == 0
    assert plane.fake(host).read().volumes == {}
    refused(await plane.run(DeletePartition(partition=name)), ProblemCode.NOT_FOUND, name)


async def test_delete_partition_that_runs_takes_force(plane, name, host):
    view = await running(plane, name, host)
    refused(await plane.run(DeletePartition(partition=name)), ProblemCode.WRONG_STATE, "running")
    await done(plane, await plane.run(DeletePartition(partition=name, force=True)), "partition.deleted")
    assert plane.fake(host).get(view.id) is None


async def test_delete_partition_by_force_stops_halfway(plane, name, host):
    name = f"{name} !delete-fails=1"
    await running(plane, name, host)
    assert (await plane.run(DeletePartition(partition=name, force=True))).state == "failed"
    view = await plane.partition(name)
    assert (view.state, view.desired_state) == ("stopped", "stopped")
    await done(plane, await plane.run(DeletePartition(partition=name)), "partition.deleted")


# ------------------------------------------------------------------------------------------------ strangers


async def test_adopt_partition(plane, name, host):
    mac = "02:fa:4e:bb:00:01"
    stranger = plane.fake(host).add_stranger(name, memory_mib=300, vcpus=2, mac=mac)
    await plane.event("partition.discovered", host_id=host.id)
    ended = await plane.run(AdoptPartition(host=host.name, partition_id=stranger))
    await done(plane, ended, "partition.adopted")
    view = await plane.partition(name)
    assert (view.id, view.state, view.memory_mib, view.vcpus) == (stranger, "running", 300, 2)
    assert view.nics[0].mac == mac
    assert plane.fake(host).get(stranger).epoch == 1
    assert (await plane.host(host.name)).memory_reserved_mib == 300
    assert await no_strangers(plane, host)
    await done(plane, await plane.run(StopPartition(partition=name)), "partition.stopped")


async def test_adopt_partition_refuses(plane, name, host):
    refused(await plane.run(AdoptPartition(host=host.name, partition_id=new_id())), ProblemCode.NOT_FOUND, "stranger")
    refused(await plane.run(AdoptPartition(host="nowhere", partition_id=new_id())), ProblemCode.NOT_FOUND)
    await plane.make(name, host=host.name)
    stranger = plane.fake(host).add_stranger(name)
    await plane.event("partition.discovered", host_id=host.id)
    taken = await plane.run(AdoptPartition(host=host.name, partition_id=stranger))
    refused(taken, ProblemCode.DUPLICATE, "name")
    renamed = AdoptPartition(host=host.name, partition_id=stranger, name=f"{name} 2")
    assert (await plane.run(renamed)).state == "succeeded"


async def test_adopt_partition_refuses_an_address_that_is_ours(plane, name, host):
    ours = await plane.make(name, host=host.name, nics=(NIC,))
    stranger = plane.fake(host).add_stranger(f"{name} 2", mac=ours.nics[0].mac)
    await plane.event("partition.discovered", host_id=host.id)
    ended = await plane.run(AdoptPartition(host=host.name, partition_id=stranger))
    refused(ended, ProblemCode.DUPLICATE, ours.nics[0].mac)


async def test_adopt_partition_that_is_too_small_to_be_ours(plane, name, host):
    stranger = plane.fake(host).add_stranger(name, memory_mib=4)
    await plane.event("partition.discovered", host_id=host.id)
    ended = await plane.run(AdoptPartition(host=host.name, partition_id=stranger))
    refused(ended, ProblemCode.INVALID, "memory_mib")
