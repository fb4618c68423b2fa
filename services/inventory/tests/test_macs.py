"""MAC addresses: unique under any concurrency, rested after use, foreign ones respected, exhaustion told."""

import asyncio

import pytest
from sqlalchemy import text
from support.expectations import refused

from openqrm.contracts.errors import ConflictError, DuplicateError, ExhaustedError, PermanentError, ProblemCode
from openqrm.contracts.ids import new_id
from openqrm.contracts.mac import AllocateMac, ListMacs, MacState, ReleaseMac
from openqrm.contracts.paging import Paging
from openqrm.contracts.partition import AttachNic, DeletePartition, DetachNic, NicSpec
from openqrm.contracts.technology import Capability, ExecutorAnnounced, ListTechnologies, MacRange, Manifest
from openqrm.inventory.domain.mac_ranges import to_number
from openqrm.inventory.handlers.mac import allocate_mac

MANY = 10_000
AT_ONCE = 500


def ask(technology: str, **fields) -> AllocateMac:
    return AllocateMac(technology=technology, request_id=new_id(), **fields)


async def tiny_technology(plane, name: str, number: int, size: int) -> str:
    """A technology with a range of few addresses of its own."""
    base = f"02:77:{number:02x}:00:00:"
    manifest = Manifest(
        technology=name,
        title=name,
        capabilities=frozenset({Capability.LIFECYCLE}),
        mac_range=MacRange(first=f"{base}00", last=f"{base}{size - 1:02x}"),
        uri_schemes=(name,),
    )
    await plane.publish(ExecutorAnnounced(manifest=manifest, version="1"))

    async def known() -> bool:
        return name in {technology.name for technology in (await plane.ask(ListTechnologies())).items}

    await plane.until(known)
    return name


async def in_parallel(plane, queries: list[AllocateMac]) -> list[str]:
    """Answer them through the handler, so many at once that they meet each other."""
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(query: AllocateMac) -> str:
        async with room:
            return (await allocate_mac(plane.inventory.inventory, query)).mac

    return await asyncio.gather(*map(answer, queries))


# ------------------------------------------------------------------------------------------------ allocation


@pytest.mark.timeout(120)
async def test_allocate_mac_ten_thousand_at_once(plane):
    """All different, all in their range, all asked for at the same time on a real PostgreSQL."""
    macs = await in_parallel(plane, [ask("xen") for _ in range(MANY)])
    assert len(set(macs)) == MANY
    assert {mac[:8] for mac in macs} == {"00:16:3e"}


async def test_allocate_mac_over_the_bus(plane):
    answers = await asyncio.gather(*(plane.ask(ask("qemu")) for _ in range(200)))
    assert len({answer.mac for answer in answers}) == 200


async def test_allocate_mac_again_gives_the_same(plane):
    query = ask("qemu")
    answers = await asyncio.gather(*(plane.ask(query) for _ in range(20)))
    assert len({answer.mac for answer in answers}) == 1
    with pytest.raises(PermanentError, match="another request_id") as error:
        await plane.ask(query.model_copy(update={"technology": "xen"}))
    assert error.value.code is ConflictError.code


async def test_allocate_mac_as_wished(plane):
    mac = "52:54:00:12:00:01"
    assert (await plane.ask(ask("qemu", mac=mac))).mac == mac
    with pytest.raises(PermanentError, match="in use") as error:
        await plane.ask(ask("qemu", mac=mac))
    assert error.value.code is DuplicateError.code


@pytest.mark.parametrize(("technology", "words"), [("vax", "no technology 'vax'"), ("plain", "no MAC addresses")])
async def test_allocate_mac_refuses(plane, technology, words):
    manifest = Manifest(technology="plain", title="Plain", capabilities=frozenset(), uri_schemes=("plain",))
    await plane.publish(ExecutorAnnounced(manifest=manifest, version="1"))

    async def known() -> bool:
        return "plain" in {each.name for each in (await plane.ask(ListTechnologies())).items}

    await plane.until(known)
    with pytest.raises(PermanentError, match=words):
        await plane.ask(ask(technology))


async def test_allocate_mac_until_the_range_is_exhausted(plane):
    technology = await tiny_technology(plane, "tiny", 1, 40)
    macs = await in_parallel(plane, [ask(technology) for _ in range(40)])
    assert len(set(macs)) == 40, "each is found, even the last one, and by many at once"
    with pytest.raises(PermanentError, match="no free address") as error:
        await plane.ask(ask(technology))
    assert error.value.code is ExhaustedError.code
    assert error.value.details == {"technology": technology, "size": 40}
    view = next(t for t in (await plane.ask(ListTechnologies())).items if t.name == technology)
    assert (view.macs_used, view.macs_free) == (40, 0)


# ------------------------------------------------------------------------------------------------ release


async def test_release_mac(plane):
    technology = await tiny_technology(plane, "rest", 2, 1)
    mac = (await plane.ask(ask(technology))).mac
    before = plane.clock.now()
    released = await plane.ask(ReleaseMac(mac=mac))
    assert 3600 < (released.free_after - before).total_seconds() <= 24 * 3600 + 60
    assert await plane.ask(ReleaseMac(mac=mac)) == released, "releasing twice does not prolong it"
    with pytest.raises(PermanentError, match="quarantine"):
        await plane.ask(ask(technology))
    with pytest.raises(PermanentError, match="rests until"):
        await plane.ask(ask(technology, mac=mac))
    await end_of_quarantine(plane, mac)
    assert (await plane.ask(ask(technology))).mac == mac
    with pytest.raises(PermanentError, match="not allocated"):
        await plane.ask(ReleaseMac(mac="02:77:ff:00:00:01"))


async def end_of_quarantine(plane, mac: str) -> None:
    async with plane.inventory.inventory.database.transaction() as connection:
        await connection.execute(
            text("UPDATE mac_addresses SET free_after = now() WHERE mac = :mac"), {"mac": to_number(mac)}
        )


async def test_release_mac_refuses_one_that_a_partition_has(plane, name, host):
    view = await plane.make(name, host=host.name, nics=(NicSpec(network="default"),))
    with pytest.raises(PermanentError, match="Detach its NIC") as error:
        await plane.ask(ReleaseMac(mac=view.nics[0].mac))
    assert error.value.details == {"partition_id": str(view.id)}


async def test_addresses_of_partitions_rest_after_use(plane, name, host):
    view = await plane.make(name, host=host.name, nics=(NicSpec(network="default"),) * 2)
    detached, deleted = (nic.mac for nic in view.nics)
    await plane.run(DetachNic(partition=name, mac=detached))
    again = await plane.run(AttachNic(partition=name, nic=NicSpec(network="default", mac=detached)))
    refused(again, ProblemCode.DUPLICATE, "rests")
    await plane.run(DeletePartition(partition=name))
    assert {await state_of(plane, mac) for mac in (detached, deleted)} == {MacState.QUARANTINED}


async def state_of(plane, mac: str) -> MacState | None:
    cursor = None
    while True:
        page = await plane.ask(ListMacs(technology="fake", paging=Paging(limit=500, cursor=cursor)))
        for view in page.items:
            if view.mac == mac:
                return view.state
        if (cursor := page.next_cursor) is None:
            return None


# ------------------------------------------------------------------------------------------------ foreign


async def test_a_foreign_address_is_respected(plane, name, host):
    mac = "02:fa:4e:cc:00:01"
    stranger = plane.fake(host).add_stranger(name, mac=mac)

    async def is_foreign() -> bool:
        return await state_of(plane, mac) is MacState.FOREIGN

    await plane.until(is_foreign)
    with pytest.raises(PermanentError, match="seen on a host"):
        await plane.ask(ask("fake", mac=mac))
    plane.fake(host).remove_by_hand(stranger)

    async def rests() -> bool:
        return await state_of(plane, mac) is MacState.QUARANTINED

    await plane.until(rests)


async def test_a_foreign_address_in_quarantine_is_not_given_out_after_it(plane, name, host):
    mac = "02:fa:4e:cc:00:02"
    await plane.ask(ask("fake", mac=mac))
    await plane.ask(ReleaseMac(mac=mac))
    plane.fake(host).add_stranger(name, mac=mac)

    async def is_foreign() -> bool:
        return await state_of(plane, mac) is MacState.FOREIGN

    await plane.until(is_foreign)


# ------------------------------------------------------------------------------------------------ lists


async def test_list_macs(plane):
    mac = (await plane.ask(ask("vmware", note="for a printer"))).mac
    page = await plane.ask(ListMacs(technology="vmware", state=MacState.ALLOCATED))
    (view,) = [view for view in page.items if view.mac == mac]
    assert (view.note, view.partition_id) == ("for a printer", None)
    macs = [view.mac for view in page.items]
    assert macs == sorted(macs)


async def test_list_technologies(plane):
    views = {view.name: view for view in (await plane.ask(ListTechnologies())).items}
    fake, xen = views["fake"], views["xen"]
    assert (fake.available, xen.available) == (True, False)
    assert fake.manifest.technology == "fake"
    assert xen.mac_range == MacRange(first="00:16:3e:00:00:00", last="00:16:3e:7f:ff:ff")
    assert xen.macs_free + xen.macs_used == 2**23


@pytest.mark.parametrize(
    ("first", "last"), [("02:77:00:00:00:05", "02:77:00:00:00:04"), ("02:00:00:00:00:00", "04:00:00:00:00:00")]
)
async def test_a_range_that_is_none_is_refused(plane, first, last):
    manifest = Manifest(
        technology="bad",
        title="Bad",
        capabilities=frozenset(),
        mac_range=MacRange(first=first, last=last),
        uri_schemes=("bad",),
    )
    before = len(plane.events)
    await plane.publish(ExecutorAnnounced(manifest=manifest, version="1"))
    letter = await plane.event("message.dead_lettered", after=before)
    assert "MAC range" in letter.letter.error.message
