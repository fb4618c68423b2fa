"""One round of the axe: start, load, strike, let it come to rest, judge."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any

from chaos.faults import Axe
from chaos.load import Load
from chaos.oracle import Finding, judge
from chaos.picture import Picture, take_picture
from chaos.plan import Plan
from chaos.probe import hangs
from chaos.report import report
from chaos.site import Site
from openqrm.executor_fake.world import FakeWorld

SETTLE_SECONDS = 120.0
"""How long after the load operations may take to end."""
Meanwhile = Callable[[Site], Awaitable[None]]


@dataclass
class Outcome:
    """What came of a round."""

    plan: Plan
    findings: list[Finding] = field(default_factory=list)
    report: str = ""


@dataclass(frozen=True)
class Script:
    """What a round is besides its plan.

    Attributes:
        prepare: called before the services start.
        meanwhile: runs beside the load; the round's faults when the plan has none.
        settle: seconds after the load that operations may take to end, and everything to come to rest.
        probes: whether a new operation of each kind has to go through afterwards.
    """

    prepare: Callable[[Site], None] | None = None
    meanwhile: Meanwhile | None = None
    settle: float = SETTLE_SECONDS
    probes: bool = True


def given_seed() -> int | None:
    """The seed that is to be played again (OPENQRM_CHAOS_SEED)."""
    given = os.environ.get("OPENQRM_CHAOS_SEED", "")
    return int(given) if given else None


def new_seed() -> int:
    """A seed that was not chosen by anybody."""
    return SystemRandom().randrange(1_000_000)


async def play(plan: Plan, script: Script = Script(), lab: Any = None) -> Outcome:
    """Play a plan on a site of its own, and judge what came of it. The folder stays when something is wrong."""
    _say(f"\nthe axe: seed {plan.seed}, {plan.seconds:g} s of load, {len(plan.faults)} faults")
    site = Site(lab)
    axe = Axe(plan, site)
    outcome = Outcome(plan)
    picture: Picture | None = None
    born = site.clock.monotonic()
    try:
        if script.prepare:
            script.prepare(site)
        await site.start()
        client, began = site.client, site.clock.monotonic()
        client.began = began
        client.until = max([plan.seconds, *(fault.at + fault.seconds for fault in plan.faults)]) + script.settle
        meanwhile = [script.meanwhile(site)] if script.meanwhile else []
        await asyncio.gather(
            Load(plan, client, site.clock, FakeWorld(site.clock, site.stack.fake_hosts)).run(), axe.run(), *meanwhile
        )
        loaded = client.now
        client.until = loaded + script.settle + SETTLE_SECONDS
        picture = await take_picture(site, script.settle)
        rested = client.now
        outcome.findings = judge(site.ledger, picture)
        _say(
            f"{site.ledger.summary()}; {len(picture.events)} events, {len(picture.seen)} partitions left; "
            f"start {began - born:.0f} s, load {loaded:.0f} s, rest {rested - loaded:.0f} s"
        )
        if script.probes:
            outcome.findings += [Finding(sentence) for sentence in await hangs(site)]
            _say(f"afterwards every kind of operation was tried, for {client.now - rested:.0f} s")
    finally:
        await site.close(keep_folder=picture is None or bool(outcome.findings))
    if outcome.findings:
        outcome.report = report(plan, axe.log, site.ledger, picture, outcome.findings, str(site.stack.folder))
        (site.stack.folder / "report.txt").write_text(outcome.report)
    return outcome


def _say(what: str) -> None:
    print(what, flush=True)
