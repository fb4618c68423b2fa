"""The driver on a real libvirtd with real guests under emulation.

The guest is the KVM probe's boot sector: it says on its serial port that it runs, and takes half a second to boot.
"""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from private_libvirtd import PrivateLibvirtd
from qemu_definitions import disk, nic, partition

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.errors import (
    DriverError,
    HostUnreachableError,
    InvalidError,
    NotFoundError,
    TimedOutError,
    UnsupportedError,
    WrongStateError,
)
from openqrm.contracts.host import HostConnection
from openqrm.contracts.ids import new_id
from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import BlankDisk, ImageContent, ImageDisk, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Host, PartitionChange, Work
from openqrm.executor_qemu.acceleration import boot_sector
from openqrm.executor_qemu.driver import QemuDriver, create_driver
from openqrm.executor_qemu.settings import QemuSettings

pytestmark = pytest.mark.lab

SETTINGS = QemuSettings(
    call_timeout_seconds=3,
    release_timeout_seconds=1,
    balloon_timeout_seconds=1,
    connect_timeout_seconds=3,
    probe_timeout_seconds=5,
)


def work() -> Work:
    return Work(new_id())


@pytest.fixture(scope="module")
def host(libvirtd: PrivateLibvirtd) -> Host:
    # Probing takes its time where KVM does not work; see test_facts.
    options = {"acceleration": "tcg"}
    connection = HostConnection(uri=libvirtd.uri, storage_path=str(libvirtd.folder / "disks"), options=options)
    return Host(new_id(), "test host", connection)


@pytest.fixture
async def driver() -> AsyncIterator[QemuDriver]:
    driver = create_driver(SystemClock(), SETTINGS)
    yield driver
    await driver.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageContent:
    path = tmp_path_factory.mktemp("images") / "tiny image.raw"
    content = boot_sector().ljust(1 << 20, b"\0")
    path.write_bytes(content)
    return ImageContent(
        image_id=new_id(),
        format=ImageFormat.RAW,
        size_bytes=len(content),
        virtual_size_mib=1,
        sha256=hashlib.sha256(content).hexdigest(),
        location=path.as_uri(),
    )


def booting(image: ImageContent, **changes: Any) -> PartitionDefinition:
    vda = disk("vda", ImageDisk(image="tiny", size_mib=2), id=new_id(), image=image)
    return partition(**{"id": new_id(), "name": "Büro <1>", "disks": (vda,), "nics": (nic(),), **changes})


def changed(definition: PartitionDefinition, **changes: Any) -> PartitionDefinition:
    return definition.model_copy(update=changes)


def files(host: Host, pattern: str) -> list[Path]:
    return list(Path(host.connection.storage_path).glob(pattern))


async def state(driver: QemuDriver, host: Host, definition: PartitionDefinition) -> ObservedState | None:
    seen = await driver.observe_partition(host, definition.id)
    return None if seen is None else seen.state


async def until_it_runs(driver: QemuDriver, host: Host, definition: PartitionDefinition) -> None:
    channel = await driver.open_serial(host, definition.id)
    seen = b""
    async with asyncio.timeout(20):
        while b"D" not in seen:
            seen += await channel.read()
    await channel.close()
    assert await channel.read() == b""


async def test_a_whole_life_each_step_twice(driver: QemuDriver, host: Host, image: ImageContent) -> None:
    definition = booting(image)
    await driver.connect(host)
    for _ in range(2):
        await driver.create(host, definition, work())
    assert await state(driver, host, definition) is ObservedState.STOPPED
    for _ in range(2):
        await driver.start(host, definition, work())
    await until_it_runs(driver, host, definition)
    picture = await driver.take_screenshot(host, definition.id)
    assert picture.picture.startswith(b"\x89PNG")
    for _ in range(2):
        await driver.pause(host, definition, work())
    assert await state(driver, host, definition) is ObservedState.PAUSED
    for _ in range(2):
        await driver.unpause(host, definition, work())
    await driver.reboot(host, definition, True, work())
    await until_it_runs(driver, host, definition)
    with pytest.raises(WrongStateError):
        await driver.delete(host, definition, work())
    with pytest.raises(TimedOutError):
        await driver.shutdown(host, definition, 1, work())
    for _ in range(2):
        await driver.stop(host, definition, work())
    await driver.mark(host, changed(definition, epoch=8))
    seen = await driver.observe_partition(host, definition.id)
    assert seen is not None
    assert (seen.name, seen.epoch) == ("Büro <1>", 8)
    assert files(host, f"{definition.id}-*")
    for _ in range(2):
        await driver.delete(host, definition, work())
    assert await state(driver, host, definition) is None
    assert not files(host, f"{definition.id}-*")
    assert len(files(host, "image-*.raw")) == 1


async def test_a_guest_without_drivers_is_told_apart(driver: QemuDriver, host: Host, image: ImageContent) -> None:
    definition = booting(image, memory_mib=64)
    await driver.create(host, definition, work())
    await driver.start(host, definition, work())
    with pytest.raises(DriverError, match="balloon"):
        await driver.resize(host, changed(definition, memory_mib=32), work())
    with pytest.raises(InvalidError, match="at the most"):
        await driver.resize(host, changed(definition, memory_mib=512, memory_max_mib=512), work())
    more = changed(definition, vcpus=3, memory_mib=256)
    await driver.resize(host, changed(more, memory_mib=256), work())
    with pytest.raises(UnsupportedError, match="agent"):
        await driver.resize(host, changed(more, vcpus=1), work())
    await driver.pin(host, changed(more, cpu_pins={0: (0,)}), work())
    with pytest.raises(InvalidError, match="host CPU"):
        await driver.pin(host, changed(more, cpu_pins={0: (4000,)}), work())
    second = nic("52:54:00:77:01:22", "br1")
    for _ in range(2):
        await driver.attach_nic(host, more, second, work())
        await driver.map_nic(host, more, second.model_copy(update={"bridge": "br0"}), work())
    extra = disk("vdb", BlankDisk(size_mib=8), id=new_id())
    for _ in range(2):
        await driver.attach_disk(host, more, extra, work())
    seen = await driver.observe_partition(host, definition.id)
    assert seen is not None
    assert [found.bridge for found in seen.nics] == ["br0", "br0"]
    assert (len(seen.disks), seen.vcpus) == (2, 3)
    with pytest.raises(DriverError, match="did not let go"):
        await driver.detach_disk(host, more, extra, False, work())
    await driver.stop(host, more, work())
    for _ in range(2):
        await driver.detach_disk(host, more, extra, False, work())
        await driver.detach_nic(host, more, second, work())
    large = changed(more, vcpus=2, vcpus_max=6, memory_mib=300, memory_max_mib=400)
    await driver.resize(host, large, work())
    seen = await driver.observe_partition(host, definition.id)
    assert seen is not None
    assert (seen.memory_mib, seen.memory_max_mib, seen.vcpus, seen.vcpus_max) == (300, 400, 2, 6)
    await driver.start(host, large, work())
    await driver.stop(host, large, work())
    await driver.delete(host, definition, work())


async def test_an_unfinished_create_is_noticed_and_repeated(
    driver: QemuDriver, host: Host, image: ImageContent, libvirtd: PrivateLibvirtd
) -> None:
    definition = booting(image)
    await driver.create(host, definition, work())
    making = f'<partition epoch="3" making="{definition.disks[0].id}"/>'
    libvirtd.virsh(
        *("metadata", str(definition.id), "https://openqrm.org/xmlns/libvirt/partition/1", "--key", "openqrm"),
        *("--set", making, "--config"),
    )
    with pytest.raises(DriverError, match="to its end"):
        await driver.start(host, definition, work())
    await driver.create(host, definition, work())
    await driver.start(host, definition, work())
    await driver.stop(host, definition, work())
    libvirtd.virsh("undefine", str(definition.id))
    await driver.start(host, changed(definition, epoch=4), work())
    await driver.stop(host, definition, work())
    await driver.delete(host, definition, work())
    with pytest.raises(DriverError, match="neither"):
        await driver.start(host, definition, work())


async def test_images_are_verified_and_uploaded_once(driver: QemuDriver, host: Host, image: ImageContent) -> None:
    def with_image(content: ImageContent) -> PartitionDefinition:
        return booting(content)

    wrong = image.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(InvalidError, match="not what was registered"):
        await driver.create(host, with_image(wrong), work())
    gone = image.model_copy(update={"sha256": "1" * 64, "location": "file:///nowhere"})
    with pytest.raises(NotFoundError):
        await driver.create(host, with_image(gone), work())
    assert await driver.observe(host) == ()
    for path in files(host, "image-*"):
        path.unlink()
    connection = host.connection.model_copy(update={"shared_storage": True})
    again = Host(new_id(), "again", connection)
    made = [with_image(image) for _ in range(4)]
    await asyncio.gather(*(driver.create(again, one, work()) for one in made))
    assert len(files(host, "image-*.raw")) == 1
    for one in made:
        await driver.delete(again, one, work())


async def test_what_happens_by_itself_is_reported(
    driver: QemuDriver, host: Host, image: ImageContent, libvirtd: PrivateLibvirtd
) -> None:
    definition = booting(image)
    await driver.create(host, definition, work())
    await driver.start(host, definition, work())
    news: asyncio.Queue[PartitionChange] = asyncio.Queue()
    watching = asyncio.ensure_future(driver.watch(host, news.put))
    await asyncio.wait({watching}, timeout=0.3)
    assert libvirtd.signal("qemu-system", signal.SIGKILL) == 1
    async with asyncio.timeout(5):
        while (change := await news.get()).observed is None or change.observed.state is not ObservedState.CRASHED:
            pass
    assert change.partition_id == definition.id
    libvirtd.kill_libvirtd()
    with pytest.raises(HostUnreachableError):
        await asyncio.wait_for(watching, 5)
    with pytest.raises(HostUnreachableError):
        await driver.ping(host)
    libvirtd.start_libvirtd()
    await driver.ping(host)
    await driver.delete(host, definition, work())


async def test_a_hung_guest_hangs_nothing_else(
    driver: QemuDriver, host: Host, image: ImageContent, libvirtd: PrivateLibvirtd
) -> None:
    hung = booting(image, nics=())
    await driver.create(host, hung, work())
    await driver.start(host, hung, work())
    assert libvirtd.signal("qemu-system", signal.SIGSTOP) == 1
    calls = [asyncio.ensure_future(driver.pause(host, hung, work())) for _ in range(6)]
    await asyncio.wait(calls, timeout=0.5)
    other = booting(image, nics=())
    async with asyncio.timeout(2.4):
        await driver.create(host, other, work())
        await driver.start(host, other, work())
        assert len(await driver.observe(host)) == 2
        await driver.ping(host)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {TimedOutError}
    for one in (hung, other):
        await driver.stop(host, one, work())
        await driver.delete(host, one, work())


async def test_strangers_are_seen_and_can_be_adopted(
    driver: QemuDriver, host: Host, libvirtd: PrivateLibvirtd, tmp_path: Path
) -> None:
    xml = tmp_path / "stranger.xml"
    xml.write_text(
        "<domain type='qemu'><name>stranger</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    libvirtd.virsh("define", str(xml))
    (stranger,) = await driver.observe(host)
    assert (stranger.name, stranger.epoch) == ("stranger", None)
    ours = partition(id=stranger.id, name="stranger", epoch=5)
    await driver.mark(host, ours)
    (adopted,) = await driver.observe(host)
    assert adopted.epoch == 5
    await driver.start(host, ours, work())
    assert await state(driver, host, ours) is ObservedState.RUNNING
    await driver.stop(host, ours, work())
    await driver.delete(host, ours, work())


async def test_facts(driver: QemuDriver, host: Host) -> None:
    connection = host.connection.model_copy(update={"options": {}})
    facts = await driver.read_facts(Host(new_id(), "probed", connection))
    assert facts.cpus >= 1
    assert facts.acceleration in ("kvm", "tcg")
    assert facts.storages[0].path == host.connection.storage_path
    assert {"libvirt", "qemu"} <= set(facts.versions)


async def test_unknown_options_are_refused(driver: QemuDriver, host: Host) -> None:
    connection = host.connection.model_copy(update={"options": {"brigde": "br0"}})
    with pytest.raises(InvalidError, match="brigde"):
        await driver.connect(Host(new_id(), "x", connection))


async def test_consoles_of_what_does_not_run(driver: QemuDriver, host: Host, image: ImageContent) -> None:
    with pytest.raises(NotFoundError):
        await driver.open_serial(host, new_id())
    definition = booting(image)
    await driver.create(host, definition, work())
    for attempt in (driver.open_serial, driver.open_vnc, driver.take_screenshot):
        with pytest.raises(WrongStateError):
            await attempt(host, definition.id)
    await driver.delete(host, definition, work())


def test_the_probe_is_a_boot_sector() -> None:
    assert len(boot_sector()) == 512
    assert boot_sector().endswith(b"\x55\xaa")
