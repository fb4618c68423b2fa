"""One fake host: its content, its network, its guests' timers and consoles, and the switches that tests turn."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from openqrm.contracts.clock import Clock
from openqrm.contracts.errors import DriverError, HostUnreachableError, NotFoundError, TemporaryError
from openqrm.contracts.ids import new_id
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import PartitionChange
from openqrm.executor_fake.address import HostPlan
from openqrm.executor_fake.script import Trouble, parse_script
from openqrm.executor_fake.state import FakePartition, HostContent, Nic, Size
from openqrm.executor_fake.store import HostStore

Closer = Callable[[], None]


class FakeHost:
    """A simulated host. What is on it is its own: no driver and no connection holds any of it."""

    def __init__(self, name: str, plan: HostPlan, store: HostStore, clock: Clock) -> None:
        self.name = name
        self.plan = plan
        self._store = store
        self._clock = clock
        self._reachable = not plan.unreachable
        self._powered = True
        self._hanging: frozenset[str] | None = frozenset()
        """Verbs that hang; None: all of them."""
        self._turned = asyncio.Event()
        """Replaced and set whenever a switch is turned, so that whoever hangs looks again."""
        self._watchers: set[asyncio.Queue[PartitionChange | None]] = set()
        self._closers: dict[UUID, set[Closer]] = defaultdict(set)
        self._troubles: Counter[tuple[UUID, str]] = Counter()
        self._timers: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------------------------------------- switches, for tests

    def lose(self) -> None:
        """Take it off the network. It runs on; nobody reaches it."""
        self._reachable = False
        self._turn()

    def find(self) -> None:
        """Put it back on the network."""
        self._reachable = True
        self._turn()

    def hang(self, *verbs: str) -> None:
        """From now on these driver methods never return; all of them when none is named."""
        self._hanging = frozenset(verbs) if verbs else None
        self._turn()

    def recover(self) -> None:
        """Nothing hangs any more."""
        self._hanging = frozenset()
        self._turn()

    def cut_power(self) -> None:
        """Pull its cord: everything that runs on it is off at once, and nobody is told."""
        self._powered = False
        with self.change() as content:
            for partition in list(content.partitions.values()):
                if partition.state is ObservedState.INCOMING:
                    del content.partitions[partition.id]
                elif partition.state is not ObservedState.CRASHED:
                    partition.state, partition.live, partition.handing_over = ObservedState.STOPPED, None, None
        for partition_id in list(self._closers):
            self.close_consoles(partition_id)
        self._turn()

    def restore_power(self) -> None:
        """Plug it in again; its partitions stay off."""
        self._powered = True
        self._turn()

    def crash(self, partition_id: UUID) -> None:
        """A partition ends by itself."""
        self._by_itself(partition_id, ObservedState.CRASHED, "crashed")

    def switch_off(self, partition_id: UUID, reason: str = "shut down by its guest") -> None:
        """A partition is switched off, by its guest or by somebody's hand."""
        self._by_itself(partition_id, ObservedState.STOPPED, reason)

    def switch_on(self, partition_id: UUID) -> None:
        """Somebody starts a partition by hand."""
        with self.change() as content:
            _run(_present(content, partition_id))
        self.tell(partition_id, "started by hand")

    def remove_by_hand(self, partition_id: UUID) -> None:
        """Somebody undefines a partition by hand."""
        with self.change() as content:
            content.partitions.pop(partition_id, None)
        self.close_consoles(partition_id)
        self.tell(partition_id, "removed by hand")

    def add_stranger(
        self, name: str, memory_mib: int = 256, vcpus: int = 1, running: bool = True, mac: str | None = None
    ) -> UUID:
        """Somebody makes a partition by hand; returns the id under which it is seen."""
        size = Size(memory_mib=memory_mib, memory_max_mib=memory_mib, vcpus=vcpus, vcpus_max=vcpus)
        stranger = FakePartition(id=new_id(), name=name, size=size)
        if mac:
            stranger.nics.append(Nic(mac=mac, bridge=self.bridges[0], model="virtio"))
        if running:
            _run(stranger)
        with self.change() as content:
            content.partitions[stranger.id] = stranger
        self.tell(stranger.id, "made by hand")
        return stranger.id

    # -------------------------------------------------------------------------------------------- being reached

    @property
    def bridges(self) -> tuple[str, ...]:
        """The bridges that NICs can be plugged into."""
        return tuple(bridge for bridge in self.plan.bridges.split(",") if bridge)

    @property
    def is_reachable(self) -> bool:
        """Whether it answers."""
        return self._reachable and self._powered

    async def enter(self, verb: str) -> None:
        """What every call to the host begins with: its latency, and whether it answers at all."""
        self._check_reachable()
        if self.plan.latency_ms:
            await self._clock.sleep(self.plan.latency_ms / 1000)
            self._check_reachable()
        while self._hanging is None or verb in self._hanging:
            await self._turned.wait()
            self._check_reachable()

    async def suffer(self, verb: str, partition_id: UUID, name: str) -> None:
        """Whatever the partition's name asks to go wrong with the verb."""
        script = parse_script(name)
        if seconds := script.slow.get(verb):
            await self._clock.sleep(seconds)
            self._check_reachable()
        trouble, times = script.troubles.get(verb, (None, None))
        if trouble is None or (times is not None and self._troubles[partition_id, verb] >= times):
            return
        self._troubles[partition_id, verb] += 1
        match trouble:
            case Trouble.FAILS:
                raise DriverError(f"{verb} of {name!r} on {self.name} fails, as its name asks for. Use another name.")
            case Trouble.FALTERS:
                raise TemporaryError(f"{verb} of {name!r} on {self.name} falters, as its name asks for.")
            case Trouble.BREAKS:
                raise ZeroDivisionError(f"{verb} of {name!r} on {self.name} breaks, as its name asks for")
            case Trouble.HANGS:
                while True:
                    await self._turned.wait()
                    self._check_reachable()

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise HostUnreachableError(f"Fake host {self.name} does not answer. Check its power and its network.")

    def _turn(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        if not self.is_reachable:
            for watcher in self._watchers:
                watcher.put_nowait(None)

    # -------------------------------------------------------------------------------------------- content

    def get(self, partition_id: UUID) -> FakePartition | None:
        """A partition, not to be changed; None when it is not here."""
        return self._store.read().partitions.get(partition_id)

    def observe(self) -> tuple[ObservedPartition, ...]:
        """All partitions, by id."""
        partitions = self._store.read().partitions
        return tuple(partitions[key].observed() for key in sorted(partitions))

    def read(self) -> HostContent:
        """Everything on it, not to be changed."""
        return self._store.read()

    def change(self) -> AbstractContextManager[HostContent]:
        """Change what is on it, without awaiting anything meanwhile."""
        return self._store.change()

    @contextmanager
    def change_partition(self, partition_id: UUID) -> Iterator[FakePartition]:
        """Change one partition. Raises NotFoundError when it is not here."""
        with self.change() as content:
            yield _present(content, partition_id)

    # -------------------------------------------------------------------------------------------- news

    def tell(self, partition_id: UUID, reason: str) -> None:
        """Report a partition's change to whoever watches."""
        partition = self.get(partition_id)
        change = PartitionChange(partition_id, partition.observed() if partition else None, reason)
        for watcher in self._watchers:
            watcher.put_nowait(change)

    async def watch(self) -> AsyncGenerator[PartitionChange, None]:
        """Changes from now on. Raises HostUnreachableError once the host is lost."""
        news: asyncio.Queue[PartitionChange | None] = asyncio.Queue()
        self._watchers.add(news)
        try:
            self._check_reachable()
            while change := await news.get():
                yield change
            self._check_reachable()
            raise HostUnreachableError(f"The connection to fake host {self.name} was lost.")
        finally:
            self._watchers.discard(news)

    # -------------------------------------------------------------------------------------------- guests

    def began(self, partition: FakePartition) -> None:
        """A partition was started: whatever its name says about the time afterwards begins."""
        script = parse_script(partition.name)
        for seconds, end in ((script.crash_after, self.crash), (script.off_after, self.switch_off)):
            if seconds is not None:
                timer = asyncio.create_task(self._end_later(partition.id, partition.starts, seconds, end))
                self._timers.add(timer)
                timer.add_done_callback(self._timers.discard)

    def opened(self, partition_id: UUID, closer: Closer) -> None:
        """A console was opened; the closer is called when the partition ends."""
        self._closers[partition_id].add(closer)

    def closed(self, partition_id: UUID, closer: Closer) -> None:
        """A console was closed by its user."""
        self._closers[partition_id].discard(closer)

    def close_consoles(self, partition_id: UUID) -> None:
        """The partition ended, and its consoles with it."""
        for closer in self._closers.pop(partition_id, set()):
            closer()

    def stop_timers(self) -> None:
        """Nothing happens by itself any more."""
        for timer in self._timers:
            timer.cancel()

    async def _end_later(self, partition_id: UUID, starts: int, seconds: float, end: Callable[[UUID], None]) -> None:
        await self._clock.sleep(seconds)
        partition = self.get(partition_id)
        if partition and partition.runs and partition.starts == starts:
            end(partition_id)

    def _by_itself(self, partition_id: UUID, state: ObservedState, reason: str) -> None:
        with self.change_partition(partition_id) as partition:
            if not partition.runs:
                return
            partition.state, partition.live, partition.handing_over = state, None, None
        self.close_consoles(partition_id)
        self.tell(partition_id, reason)


def _present(content: HostContent, partition_id: UUID) -> FakePartition:
    partition = content.partitions.get(partition_id)
    if partition is None:
        raise NotFoundError(f"The host does not have partition {partition_id}.")
    return partition


def _run(partition: FakePartition) -> None:
    partition.state = ObservedState.RUNNING
    partition.live = partition.size.model_copy()
    partition.starts += 1
