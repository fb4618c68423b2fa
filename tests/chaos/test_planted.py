"""The oracle can see: each safeguard is broken in turn, and the oracle says so; unbroken, it has nothing to say.

Each scene is arranged so that the safeguard is needed for certain.
"""

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from chaos.ledger import Promise
from chaos.plan import make_plan
from chaos.round import Outcome, Script, play
from chaos.site import Site
from openqrm.bus.streams import COMMANDS, EXECUTIONS
from openqrm.contracts.ids import new_id

TESTS = Path(__file__).resolve().parents[1]
SEED = 1
REDELIVERY_SECONDS = 12.0
"""Shorter than the product's 30 s, and longer than the 10 s after which long work shows life."""
AGAIN_SECONDS = REDELIVERY_SECONDS + 3.0
"""After this a message whose acknowledgement was lost has come again."""
ACKNOWLEDGED_SECONDS = 2.0
"""After this what was carried out was acknowledged, as far as its executor knows."""


def _prepare(broken: str | None, service: str, site: Site) -> None:
    site.redelivery = REDELIVERY_SECONDS
    if broken:
        _break(broken, service, site)


def _break(what: str, service: str, site: Site) -> None:
    module = {"inventory": "openqrm.inventory", "executor-fake": "openqrm.executor_fake.app"}[service]
    site.stack.commands[service] = ["-m", "chaos.broken", what, module]
    overrides = site.stack.overrides.setdefault(service, {})
    overrides["PYTHONPATH"] = f"{TESTS}:{site.stack.base.get('PYTHONPATH', '')}".rstrip(":")


async def _scene(
    broken: str | None, service: str, meanwhile: Callable[[Site], Awaitable[None]], actors: int, settle: float
) -> Outcome:
    plan = make_plan(SEED, seconds=6, with_qemu=False, strikes=False, actors=actors)
    prepare = partial(_prepare, broken, service)
    return await play(plan, Script(prepare, meanwhile, settle if broken else 120.0, probes=broken is None))


def _check(outcome: Outcome, broken: str | None, *words: str) -> None:
    found = [finding.sentence for finding in outcome.findings]
    if broken is None:
        assert found == [], outcome.report
    else:
        assert any(any(word in sentence for word in words) for sentence in found), f"the oracle was blind: {found}"


# ------------------------------------------------------------------------------------------------ the scenes


async def _killed_before_it_could_tell(site: Site) -> None:
    """Inventory hears and writes, but says nothing for a while; then it is killed."""
    await site.clock.sleep(3.0)
    wire = site.bus_wires["inventory"]
    wire.hold(down=False)
    await site.clock.sleep(2.0)
    pid = site.process_of("inventory")
    assert pid is not None
    wire.cut()
    site.signal(pid, signal.SIGKILL)
    wire.join()
    wire.release()


async def _commands_come_again(site: Site) -> None:
    """Inventory does what it is told; its acknowledgements are lost, and everything comes a second time."""
    sieve = site.bus_wires["inventory"].sieve
    assert sieve is not None
    await site.clock.sleep(1.0)
    sieve.stream = COMMANDS
    await site.clock.sleep(3.0)
    sieve.stream = None
    assert sieve.lost
    await site.clock.sleep(AGAIN_SECONDS)


async def _a_start_comes_again_where_it_was(site: Site) -> None:
    """A start whose acknowledgement is lost comes again when the partition has long been moved elsewhere."""
    sieve = site.bus_wires["executor-fake"].sieve
    assert sieve is not None
    identity = str(new_id())
    path = f"/partitions/{identity}"

    async def do(verb: str, where: str = path, **body: object) -> Promise:
        where = where if where != path else f"{path}/{verb}"
        return await site.do(f"partition.{verb}", "POST", where, body, identity)

    await do("create", "/partitions", name="traveller", partition_id=identity, technology="fake", memory_mib=64,
             vcpus=1, host="f1")  # fmt: skip
    sieve.stream = EXECUTIONS
    await do("start")
    await site.clock.sleep(ACKNOWLEDGED_SECONDS)  # others are lost as well, so that counting proves nothing
    assert sieve.lost
    sieve.stream = None
    await do("stop")
    await do("migrate", host="f2", live=False)
    await do("start")
    await site.clock.sleep(AGAIN_SECONDS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", ["outbox", None])
async def test_the_outbox(broken: str | None) -> None:
    outcome = await _scene(broken, "inventory", _killed_before_it_could_tell, actors=12, settle=12.0)
    _check(outcome, broken, "the stream ends at", "a gap in the events")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", ["inbox", None])
async def test_the_inbox(broken: str | None) -> None:
    outcome = await _scene(broken, "inventory", _commands_come_again, actors=12, settle=30.0)
    _check(outcome, broken, "nobody asked for")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", ["epoch", None])
async def test_the_epoch_check(broken: str | None) -> None:
    outcome = await _scene(broken, "executor-fake", _a_start_comes_again_where_it_was, actors=0, settle=30.0)
    _check(outcome, broken, "is on several hosts")
