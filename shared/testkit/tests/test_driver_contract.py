"""The driver contract catches drivers that break it: each mistake fails the tests that it should."""

import pytest

pytest_plugins = ["pytester"]

MISTAKES = {
    "start does not write the epoch": (
        "async def start(self, host, partition, work):\n"
        "    found = await self.observe_partition(host, partition.id)\n"
        "    epoch = found.epoch if found else partition.epoch\n"
        "    await super().start(host, partition.model_copy(update={'epoch': epoch}), work)",
        ["test_the_epoch_is_written_and_stays", "test_starting_what_runs_raises_its_epoch"],
    ),
    "deleting twice fails": (
        "async def delete(self, host, partition, work):\n"
        "    if await self.observe_partition(host, partition.id) is None:\n"
        "        raise NotFoundError('it is gone')\n"
        "    await super().delete(host, partition, work)",
        ["test_every_verb_twice_is_once", "test_stopping_what_is_not_there_is_fine"],
    ),
    "deleting leaves the disks": (
        "async def delete(self, host, partition, work):\n"
        "    fake = self.world.host(host.connection)\n"
        "    volumes = dict(fake.read().volumes)\n"
        "    await super().delete(host, partition, work)\n"
        "    with fake.change() as content:\n"
        "        content.volumes = volumes",
        ["test_deleting_removes_its_own_volumes_and_no_others"],
    ),
    "a bare exception": (
        "async def reboot(self, host, partition, hard, work):\n    raise KeyError(partition.id)",
        ["test_errors_are_ours"],
    ),
    "a migration leaves the source": (
        "async def migrate(self, source, target, partition, *more):\n"
        "    before = self.world.host(source.connection).get(partition.id)\n"
        "    await super().migrate(source, target, partition, *more)\n"
        "    if before:\n"
        "        with self.world.host(source.connection).change() as content:\n"
        "            content.partitions[partition.id] = before",
        ["test_moving"],
    ),
    "nothing is watched": (
        "async def watch(self, host, report):\n    await self._clock.sleep(3600)",
        ["test_a_crash_is_reported", "test_a_new_stranger_is_reported"],
    ),
    "an unreachable host is a permanent error": (
        "async def ping(self, host):\n"
        "    try:\n"
        "        await super().ping(host)\n"
        "    except HostUnreachableError as error:\n"
        "        raise DriverError(error.message) from error",
        ["test_a_host_that_does_not_answer_is_unreachable"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught(pytester: pytest.Pytester, request: pytest.FixtureRequest, mistake: str) -> None:
    method, caught = MISTAKES[mistake]
    supplied = request.config.rootpath / "services/executor-fake/tests/test_contract.py"
    body = "\n".join("    " + line for line in method.splitlines())
    wrong = (
        "from openqrm.contracts.errors import DriverError, HostUnreachableError, NotFoundError\n"
        + supplied.read_text().partition("class TestContractInFiles")[0]
        + f"\n\nclass WrongDriver(FakeDriver):\n{body}\n\n\nFakeDriver = WrongDriver\n"
    ).replace('bridges = ("br0", "br1")', 'bridges = ("br0", "br1")\n    news_seconds = 0.3')
    pytester.makepyfile(wrong)
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\n"
        "asyncio_default_test_loop_scope = session\n"
    )
    result = pytester.runpytest_inprocess("-q", "-k", " or ".join(caught), "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= len(caught), result.stdout.str()[-3000:]
