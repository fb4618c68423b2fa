"""The fake driver: every capability, on hosts that are only simulated."""

# ruff: noqa: ARG002 - the capabilities fix the signatures

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.console import Screenshot
from openqrm.contracts.errors import DriverError, NotFoundError, TimedOutError, WrongStateError
from openqrm.contracts.execution import Change
from openqrm.contracts.host import HostFacts, HostStorage, NumaNode
from openqrm.contracts.partition import DiskDefinition, NicDefinition, ObservedPartition, PartitionDefinition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import ByteChannel, Host, PartitionChange, Work
from openqrm.executor_fake import building
from openqrm.executor_fake.channel import AnsweringChannel
from openqrm.executor_fake.host import FakeHost
from openqrm.executor_fake.migration import Move
from openqrm.executor_fake.png import plain_png
from openqrm.executor_fake.rfb import HEIGHT, WIDTH, BlackScreen
from openqrm.executor_fake.script import parse_script
from openqrm.executor_fake.settings import FakeSettings
from openqrm.executor_fake.shell import Shell, Wish
from openqrm.executor_fake.state import RUNNING, FakePartition, nic_of
from openqrm.executor_fake.world import FakeWorld, shared_world

SHUTDOWN_SECONDS = 0.02
"""What a fake guest takes to shut down."""


class FakeDriver:
    """Drives the hosts of one world."""

    def __init__(self, world: FakeWorld, clock: Clock) -> None:
        self.world = world
        self._clock = clock
        self._serial: dict[tuple[UUID, UUID], AnsweringChannel] = {}

    # -------------------------------------------------------------------------------------------- hosts

    async def connect(self, host: Host) -> None:
        fake = self.world.admit(host.connection)
        await fake.enter("connect")
        if not fake.read().prepared:
            raise DriverError(f"Host {host.name} has no hypervisor. Carry out host.prepare on it.")

    async def disconnect(self, host_id: UUID) -> None:
        pass

    async def ping(self, host: Host) -> None:
        await self.world.host(host.connection).enter("ping")

    async def close(self) -> None:
        for channel in list(self._serial.values()):
            channel.end()

    async def prepare(self, host: Host, work: Work) -> tuple[Change, ...]:
        fake = self.world.admit(host.connection)
        await fake.enter("prepare")
        await work.progress(50, "installing the fake hypervisor")
        if fake.read().prepared:
            return ()
        with fake.change() as content:
            content.prepared = True
        return (Change(what="package fake-hypervisor", after="installed"),)

    # -------------------------------------------------------------------------------------------- observation

    async def read_facts(self, host: Host) -> HostFacts:
        fake = await self._enter(host, "read_facts")
        plan, content = fake.plan, fake.read()
        used = sum(partition.live.memory_mib for partition in content.partitions.values() if partition.live)
        per_node = max(plan.cpus // plan.numa_nodes, 1)
        return HostFacts(
            hostname=fake.name,
            architecture="x86_64",
            cpu_model="Fake CPU",
            cpus=plan.cpus,
            cores_per_socket=plan.cpus,
            numa_nodes=tuple(
                NumaNode(
                    number=number,
                    memory_mib=plan.memory_mib // plan.numa_nodes,
                    cpus=tuple(range(number * per_node, min((number + 1) * per_node, plan.cpus))),
                )
                for number in range(plan.numa_nodes)
            ),
            memory_mib=plan.memory_mib,
            memory_free_mib=max(plan.memory_mib - used, 0),
            acceleration="fake",
            versions={"fake": "1"},
            bridges=fake.bridges,
            storages=(
                HostStorage(
                    name="default",
                    path=host.connection.storage_path,
                    total_mib=plan.storage_mib,
                    free_mib=max(plan.storage_mib - sum(content.volumes.values()), 0),
                ),
            ),
        )

    async def observe(self, host: Host) -> tuple[ObservedPartition, ...]:
        return (await self._enter(host, "observe")).observe()

    async def observe_partition(self, host: Host, partition_id: UUID) -> ObservedPartition | None:
        fake = await self._enter(host, "observe_partition")
        found = fake.get(partition_id)
        if found:
            await fake.suffer("observe_partition", partition_id, found.name)
            found = fake.get(partition_id)
        return found.observed() if found else None

    async def watch(self, host: Host, report: Callable[[PartitionChange], Awaitable[None]]) -> None:
        fake = await self._enter(host, "watch")
        async with aclosing(fake.watch()) as changes:
            async for change in changes:
                await report(change)

    async def mark(self, host: Host, partition: PartitionDefinition) -> None:
        fake = await self._begin(host, "mark", partition)
        building.check_epoch(fake, partition)
        with fake.change_partition(partition.id) as found:
            found.epoch = partition.epoch

    # -------------------------------------------------------------------------------------------- life cycle

    async def create(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "create", partition)
        building.check_epoch(fake, partition)
        building.check_fits(fake, partition, partition.nics)
        building.check_pins(fake, partition)
        await work.progress(50, "making its disks")
        with fake.change() as content:
            building.define(fake, content, partition, partition.nics, host.connection.storage_path, with_volumes=True)

    async def start(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "start", partition)
        building.check_epoch(fake, partition)
        found = fake.get(partition.id)
        runs = found is not None and found.runs
        if not runs:
            building.check_fits(fake, partition, partition.nics)
        with fake.change() as content:
            if runs:
                running = content.partitions[partition.id]
                running.state, running.handing_over, running.epoch = ObservedState.RUNNING, None, partition.epoch
                return
            path = host.connection.storage_path
            building.begin_to_run(building.define(fake, content, partition, partition.nics, path, with_volumes=False))
        self.world.began(fake, partition.id)

    async def stop(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        self._switch_off(await self._begin(host, "stop", partition), partition.id)

    async def shutdown(self, host: Host, partition: PartitionDefinition, timeout_seconds: int, work: Work) -> None:
        fake = await self._begin(host, "shutdown", partition)
        found = fake.get(partition.id)
        if found is None or not found.runs:
            return
        if parse_script(partition.name).ignores_shutdown or found.state is ObservedState.PAUSED:
            await self._clock.sleep(timeout_seconds)
            raise TimedOutError(
                f"The guest of {partition.name!r} did not shut down within {timeout_seconds} s. "
                "Stop it by force, or look at its console."
            )
        await self._clock.sleep(min(SHUTDOWN_SECONDS, timeout_seconds))
        self._switch_off(fake, partition.id)

    async def reboot(self, host: Host, partition: PartitionDefinition, hard: bool, work: Work) -> None:
        fake = await self._begin(host, "reboot", partition)
        with fake.change_partition(partition.id) as found:
            _check_runs(found)
            found.state = ObservedState.RUNNING
            found.starts += 1
        self.world.began(fake, partition.id)

    async def delete(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "delete", partition)
        with fake.change() as content:
            found = content.partitions.get(partition.id)
            if found is None:
                return
            if found.runs:
                raise WrongStateError(f"{partition.name!r} runs on {host.name}. Stop it before deleting it.")
            for disk in found.disks:
                if disk.own:
                    content.volumes.pop(disk.source, None)
            del content.partitions[partition.id]
        fake.close_consoles(partition.id)

    # -------------------------------------------------------------------------------------------- while it runs

    async def pause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "pause", partition)
        with fake.change_partition(partition.id) as found:
            _check_runs(found)
            found.state = ObservedState.PAUSED

    async def unpause(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "unpause", partition)
        with fake.change_partition(partition.id) as found:
            _check_runs(found)
            found.state = ObservedState.RUNNING

    async def resize(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "resize", partition)
        with fake.change_partition(partition.id) as found:
            building.resize(found, partition)

    async def pin(self, host: Host, partition: PartitionDefinition, work: Work) -> None:
        fake = await self._begin(host, "pin", partition)
        building.check_pins(fake, partition)
        with fake.change_partition(partition.id) as found:
            found.cpu_pins = dict(partition.cpu_pins)

    async def attach_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        fake = await self._begin(host, "attach_nic", partition)
        building.check_bridge(fake, nic)
        with fake.change_partition(partition.id) as found:
            if all(other.mac != nic.mac for other in found.nics):
                found.nics.append(nic_of(nic))

    async def detach_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        fake = await self._begin(host, "detach_nic", partition)
        with fake.change_partition(partition.id) as found:
            found.nics = [other for other in found.nics if other.mac != nic.mac]

    async def map_nic(self, host: Host, partition: PartitionDefinition, nic: NicDefinition, work: Work) -> None:
        fake = await self._begin(host, "map_nic", partition)
        building.check_bridge(fake, nic)
        with fake.change_partition(partition.id) as found:
            mapped = next((other for other in found.nics if other.mac == nic.mac), None)
            if mapped is None:
                raise NotFoundError(f"{partition.name!r} has no NIC {nic.mac} on {host.name}. Attach it first.")
            mapped.bridge = nic.bridge

    async def attach_disk(self, host: Host, partition: PartitionDefinition, disk: DiskDefinition, work: Work) -> None:
        fake = await self._begin(host, "attach_disk", partition)
        with fake.change() as content:
            found = content.partitions.get(partition.id)
            if found is None:
                raise NotFoundError(f"Host {host.name} does not have {partition.name!r}.")
            building.attach_disk(fake, content, found, disk, host.connection.storage_path)

    async def detach_disk(
        self, host: Host, partition: PartitionDefinition, disk: DiskDefinition, keep: bool, work: Work
    ) -> None:
        fake = await self._begin(host, "detach_disk", partition)
        with fake.change() as content:
            found = content.partitions.get(partition.id)
            if found is None:
                raise NotFoundError(f"Host {host.name} does not have {partition.name!r}.")
            for gone in [other for other in found.disks if other.target == disk.target]:
                found.disks.remove(gone)
                if gone.own and not keep:
                    content.volumes.pop(gone.source, None)

    async def migrate(
        self,
        source: Host,
        target: Host,
        partition: PartitionDefinition,
        target_nics: tuple[NicDefinition, ...],
        live: bool,
        bandwidth_mib_s: int | None,
        work: Work,
    ) -> None:
        move = Move(
            world=self.world,
            clock=self._clock,
            source=await self._enter(source, "migrate"),
            target=await self._enter(target, "migrate"),
            source_path=source.connection.storage_path,
            target_path=target.connection.storage_path,
            partition=partition,
            target_nics=target_nics,
            live=live,
            bandwidth_mib_s=bandwidth_mib_s,
            work=work,
        )
        await move.carry_out()

    # -------------------------------------------------------------------------------------------- consoles

    async def open_serial(self, host: Host, partition_id: UUID) -> ByteChannel:
        fake, found = await self._running(host, "open_serial", partition_id)
        key = (host.id, partition_id)
        if older := self._serial.get(key):
            older.end()
        shell = Shell(found.name)

        def feed(data: bytes) -> bytes:
            seen = shell.feed(data)
            if shell.wish is Wish.POWER_OFF:
                fake.switch_off(partition_id)
            elif shell.wish is Wish.CRASH:
                fake.crash(partition_id)
            return seen

        def on_close() -> None:
            fake.closed(partition_id, channel.end)
            if self._serial.get(key) is channel:
                del self._serial[key]

        channel = AnsweringChannel(shell.greeting(), feed, on_close)
        self._serial[key] = channel
        fake.opened(partition_id, channel.end)
        return channel

    async def open_vnc(self, host: Host, partition_id: UUID) -> ByteChannel:
        fake, found = await self._running(host, "open_vnc", partition_id)
        screen = BlackScreen(found.name)
        channel = AnsweringChannel(screen.greeting(), screen.feed, lambda: fake.closed(partition_id, channel.end))
        fake.opened(partition_id, channel.end)
        return channel

    async def take_screenshot(self, host: Host, partition_id: UUID) -> Screenshot:
        await self._running(host, "take_screenshot", partition_id)
        return Screenshot(media_type="image/png", picture=plain_png(WIDTH, HEIGHT))

    # -------------------------------------------------------------------------------------------- helpers

    async def _enter(self, host: Host, verb: str) -> FakeHost:
        fake = self.world.host(host.connection)
        await fake.enter(verb)
        return fake

    async def _begin(self, host: Host, verb: str, partition: PartitionDefinition) -> FakeHost:
        fake = await self._enter(host, verb)
        await fake.suffer(verb, partition.id, partition.name)
        return fake

    async def _running(self, host: Host, verb: str, partition_id: UUID) -> tuple[FakeHost, FakePartition]:
        fake = await self._enter(host, verb)
        found = fake.get(partition_id)
        if found is None:
            raise NotFoundError(f"Host {host.name} does not have partition {partition_id}.")
        _check_runs(found)
        return fake, found

    def _switch_off(self, fake: FakeHost, partition_id: UUID) -> None:
        with fake.change() as content:
            found = content.partitions.get(partition_id)
            if found is None:
                return
            if found.state in RUNNING | {ObservedState.CRASHED}:
                found.state, found.live, found.handing_over = ObservedState.STOPPED, None, None
        fake.close_consoles(partition_id)


def _check_runs(found: FakePartition) -> None:
    if not found.runs:
        raise WrongStateError(f"{found.name!r} does not run ({found.state.value}). Start it first.")


def create_driver(clock: Clock) -> FakeDriver:
    """The driver for this process, on the world that its settings name."""
    return FakeDriver(shared_world(clock, FakeSettings().folder), clock)
