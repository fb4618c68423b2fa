"""Commands on networks and images, and dead letters replayed and discarded."""

from uuid import UUID

import pytest
from support.expectations import refused

from openqrm.contracts.dead_letter import DiscardMessage, ListDeadLetters, ReplayMessage
from openqrm.contracts.errors import PermanentError, ProblemCode
from openqrm.contracts.ids import new_id
from openqrm.contracts.image import DeleteImage, GetImage, ListImages, RegisterImage
from openqrm.contracts.network import ChangeNetwork, CreateNetwork, DeleteNetwork, GetNetwork, ListNetworks
from openqrm.contracts.paging import Paging
from openqrm.contracts.partition import AttachNic, DeletePartition, DetachNic, GetPartition, ListPartitions, NicSpec

ABC = "a" * 64


def image(name: str, **changes) -> RegisterImage:
    fields = {
        "name": name,
        "format": "qcow2",
        "size_bytes": 1000,
        "virtual_size_mib": 10,
        "sha256": ABC,
        "location": "file:///srv/i.qcow2",
    }
    return RegisterImage(**fields | changes)


# ------------------------------------------------------------------------------------------------ networks


async def test_create_network(plane, name, host):
    command = CreateNetwork(name=name, bridge="br1", host_bridges={host.id: "br2"}, vlan=7, description="for tests")
    ended = await plane.run(command)
    assert ended.state == "succeeded"
    event = await plane.event("network.created", operation_id=ended.id)
    assert (event.network.name, event.network.bridge, event.network.vlan) == (name, "br1", 7)
    view = await plane.make(name, host=host.name, nics=(NicSpec(network=name),))
    assert plane.fake(host).get(view.id).nics[0].bridge == "br2"
    refused(await plane.run(CreateNetwork(name=name, bridge="br0")), ProblemCode.DUPLICATE, "name")
    same_id = CreateNetwork(name=f"{name} 2", bridge="br0", network_id=event.network.id)
    refused(await plane.run(same_id), ProblemCode.DUPLICATE, "id")


async def test_change_network(plane, name):
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    ended = await plane.run(ChangeNetwork(network=name, bridge="br2", name=f"{name} new"))
    assert ended.state == "succeeded"
    event = await plane.event("network.changed", operation_id=ended.id)
    assert (event.network.revision, event.network.bridge) == (2, "br2")
    stale = ChangeNetwork(network=f"{name} new", bridge="br0", expected_revision=1)
    refused(await plane.run(stale), ProblemCode.PRECONDITION, "revision 2")
    refused(await plane.run(ChangeNetwork(network=name, bridge="br0")), ProblemCode.NOT_FOUND, name)
    refused(await plane.run(ChangeNetwork(network=f"{name} new", name="default")), ProblemCode.DUPLICATE)


async def test_delete_network(plane, name, host):
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    view = await plane.make(name, host=host.name, nics=(NicSpec(network=name),))
    refused(await plane.run(DeleteNetwork(network=name)), ProblemCode.CONFLICT, "1 partitions", name)
    await plane.run(DetachNic(partition=name, mac=view.nics[0].mac))
    ended = await plane.run(DeleteNetwork(network=name))
    assert ended.state == "succeeded"
    await plane.event("network.deleted", operation_id=ended.id)
    refused(await plane.run(DeleteNetwork(network=name)), ProblemCode.NOT_FOUND, name)


async def test_delete_network_that_is_about_to_be_used(plane, name, host):
    """A NIC that is being attached has no place in the partition yet, and must find its network afterwards."""
    slow = f"{name} !attach_nic-slow=1"
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    await plane.make(slow, host=host.name)
    command = AttachNic(partition=slow, nic=NicSpec(network=name))
    await plane.client.publish(command)
    await plane.operation(command.operation_id, "running")
    refused(await plane.run(DeleteNetwork(network=name)), ProblemCode.CONFLICT, slow)
    assert (await plane.end_of(command.operation_id)).state == "succeeded"


async def test_a_deleted_partition_outlives_its_network(plane, name, host):
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    view = await plane.make(name, host=host.name, nics=(NicSpec(network=name),))
    await plane.run(DeletePartition(partition=name))
    await plane.run(DeleteNetwork(network=name))
    assert (await plane.ask(GetPartition(partition=str(view.id)))).nics[0].network_name == "(deleted)"
    page = await plane.ask(ListPartitions(state="deleted", paging=Paging(limit=500)))
    assert view.id in {each.id for each in page.items}


async def test_get_network(plane, name):
    await plane.run(CreateNetwork(name=name, bridge="br1"))
    by_name = await plane.ask(GetNetwork(network=name))
    assert await plane.ask(GetNetwork(network=str(by_name.id))) == by_name
    with pytest.raises(PermanentError, match="no network 'nope'"):
        await plane.ask(GetNetwork(network="nope"))


async def test_list_networks(plane, name):
    for number in range(3):
        await plane.run(CreateNetwork(name=f"{name} {number}", bridge="br1"))
    found, cursor = [], None
    while True:
        page = await plane.ask(ListNetworks(paging=Paging(limit=2, cursor=cursor)))
        found += [network.name for network in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert found == sorted(found)
    assert {f"{name} {number}" for number in range(3)} <= set(found)


# ------------------------------------------------------------------------------------------------ images


async def test_register_image(plane, name):
    ended = await plane.run(image(name, description="a test"))
    assert ended.state == "succeeded"
    event = await plane.event("image.registered", operation_id=ended.id)
    assert (event.image.name, event.image.virtual_size_mib) == (name, 10)
    refused(await plane.run(image(name)), ProblemCode.DUPLICATE, "name")


@pytest.mark.parametrize(
    "location",
    ["file://host/x", "file:relative", "file:///srv/../etc/shadow", "file:///a?b", "https:///x", "file:///a%0ab"],
)
async def test_register_image_refuses_a_location_that_leads_nowhere(plane, name, location):
    if not location.startswith(("file://", "https://")):
        with pytest.raises(ValueError, match="location"):
            image(name, location=location)
        return
    ended = await plane.run(image(name, location=location))
    refused(ended, ProblemCode.INVALID, "location")
    assert ended.error.fields[0].field == "location"


async def test_register_image_with_a_size_beyond_all_measure(plane, name):
    """PostgreSQL cannot store it, nor the operation that asks for it as anything but text: it is refused."""
    ended = await plane.run(image(name, size_bytes=2**70))
    refused(ended, ProblemCode.INVALID, "too large")


async def test_delete_image(plane, name):
    await plane.run(image(name))
    ended = await plane.run(DeleteImage(image=name))
    assert ended.state == "succeeded"
    await plane.event("image.deleted", operation_id=ended.id)
    refused(await plane.run(DeleteImage(image=name)), ProblemCode.NOT_FOUND, name)
    by_id = await plane.run(image(name))
    assert (await plane.run(DeleteImage(image=str(by_id.target_id)))).state == "succeeded"


async def test_get_image(plane, name):
    await plane.run(image(name))
    by_name = await plane.ask(GetImage(image=name))
    assert await plane.ask(GetImage(image=str(by_name.id))) == by_name
    with pytest.raises(PermanentError, match="no image"):
        await plane.ask(GetImage(image=str(new_id())))


async def test_list_images(plane, name):
    await plane.run(image(name))
    page = await plane.ask(ListImages(paging=Paging(limit=500)))
    assert name in [each.name for each in page.items]
    with pytest.raises(PermanentError, match="Begin again without a cursor"):
        await plane.ask(ListImages(paging=Paging(cursor="no cursor")))


# ------------------------------------------------------------------------------------------------ dead letters


async def letter_of(plane, subject: str, body: bytes) -> UUID:
    """Publish garbage, and await its dead letter."""
    before = len(plane.events)
    await plane.client.js.publish(subject, body, headers={"ce-id": str(new_id())})
    event = await plane.event("message.dead_lettered", after=before)

    async def kept() -> bool:
        page = await plane.ask(ListDeadLetters())
        return event.letter.id in {letter.id for letter in page.items}

    await plane.until(kept)
    return event.letter.id


async def test_list_dead_letters(plane):
    identity = await letter_of(plane, "partition.start", b'{"partition": 7}')
    page = await plane.ask(ListDeadLetters(paging=Paging(limit=1, descending=True)))
    (letter,) = page.items
    assert (letter.id, letter.subject, letter.body) == (identity, "partition.start", b'{"partition": 7}')
    assert letter.error.code is ProblemCode.INVALID
    assert "partition" in letter.error.message
    assert letter.consumer == "COMMANDS/inventory"


async def test_replay_message(plane):
    identity = await letter_of(plane, "partition.start", b"{}")
    before = len(plane.events)
    assert (await plane.run(ReplayMessage(letter_id=identity))).result == {"subject": "partition.start"}
    again = await plane.event("message.dead_lettered", after=before)
    assert again.letter.body == b"{}", "it is still garbage"
    refused(await plane.run(ReplayMessage(letter_id=identity)), ProblemCode.NOT_FOUND, str(identity))


async def test_discard_message(plane):
    identity = await letter_of(plane, "partition.start", b"nothing")
    assert (await plane.run(DiscardMessage(letter_id=identity))).state == "succeeded"
    refused(await plane.run(DiscardMessage(letter_id=identity)), ProblemCode.NOT_FOUND, str(identity))
    page = await plane.ask(ListDeadLetters(paging=Paging(limit=500)))
    assert identity not in {letter.id for letter in page.items}
