"""When a reading is news, on virtual time."""

from typing import Any

from openqrm.contracts.host import HostConnection, HostStorage
from openqrm.contracts.ids import new_id
from openqrm.contracts.states import ObservedState
from openqrm.driver.capabilities import Host
from openqrm.driver.executor import ExecutorSettings
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.reader import HostReader, comparable
from openqrm.executor_fake.driver import FakeDriver
from openqrm.executor_fake.world import FakeWorld
from openqrm.testkit.clock import ManualClock

HOST = Host(new_id(), "h1", HostConnection(uri="fake://h1"))


class SlowDriver(FakeDriver):
    """Something happens while the partitions are read."""

    def __init__(self, world: FakeWorld, clock: ManualClock) -> None:
        super().__init__(world, clock)
        self.meanwhile: Any = None

    async def observe(self, host: Host) -> Any:
        seen = await super().observe(host)
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return seen


def _reader(clock: ManualClock) -> tuple[HostReader, SlowDriver]:
    driver = SlowDriver(FakeWorld(clock), clock)
    return HostReader(driver, clock, Deadlines(clock), ExecutorSettings()), driver


async def test_the_first_reading_and_changes_are_news() -> None:
    clock = ManualClock()
    reader, driver = _reader(clock)
    reader.begin()
    first = await reader.read(HOST)
    assert first is not None
    reader.told(first)
    assert await reader.read(HOST) is None
    stranger = driver.world.host("h1").add_stranger("x")
    news = await reader.read(HOST)
    assert news is not None
    assert [partition.id for partition in news.partitions] == [stranger]
    assert await reader.read(HOST) is not None, "what was not told is still news"
    reader.told(news)
    await clock.advance(599)
    assert await reader.read(HOST) is None
    await clock.advance(2)
    assert await reader.read(HOST) is not None, "everything is told now and then"


async def test_a_reading_does_not_undo_what_was_seen_meanwhile() -> None:
    clock = ManualClock()
    reader, driver = _reader(clock)
    fake = driver.world.host("h1")
    stranger = fake.add_stranger("x")
    reader.begin()
    reader.told(await reader.read(HOST))  # type: ignore[arg-type]

    def stopped_meanwhile() -> None:
        fake.switch_off(stranger)
        found = fake.get(stranger)
        assert found
        reader.note(stranger, found.observed())

    driver.meanwhile = stopped_meanwhile
    reader.begin()
    news = await reader.read(HOST)
    assert news is not None
    assert [partition.state for partition in news.partitions] == [ObservedState.STOPPED]
    reader.told(news)
    assert await reader.read(HOST) is None


async def test_free_space_that_changes_a_little_is_no_news() -> None:
    facts = await FakeDriver(FakeWorld(ManualClock()), ManualClock()).read_facts(HOST)

    def with_free(mib: int, memory: int) -> Any:
        storage = HostStorage(name="x", path="/x", total_mib=1000, free_mib=mib)
        return facts.model_copy(update={"storages": (storage,), "memory_free_mib": memory})

    assert comparable(with_free(555, 1)) == comparable(with_free(550, 2))
    assert comparable(with_free(555, 1)) != comparable(with_free(450, 1))
