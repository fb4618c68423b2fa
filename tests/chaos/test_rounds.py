"""Ten rounds with everything: simulated hosts and real QEMU ones, every victim, every way, up to 30 s each.

A seed that is given (OPENQRM_CHAOS_SEED) is played alone.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.plan import make_plan
from chaos.round import given_seed, new_seed, play

ROUNDS = int(os.environ.get("OPENQRM_CHAOS_ROUNDS", "10"))
LOAD_SECONDS = float(os.environ.get("OPENQRM_CHAOS_SECONDS", "45"))
GIVEN = given_seed()
SEEDS = [new_seed() for _ in range(ROUNDS)] if GIVEN is None else [GIVEN]


@pytest.fixture
def lab() -> Iterator[Any]:
    """A fresh lab with two hypervisors, beside those of others."""
    if os.geteuid() != 0:
        pytest.skip("QEMU hosts need root")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
    from qemu_lab import Lab
    from qemu_lab.plan import Folder

    by_hand = Folder.from_environment().path
    running = Lab(Folder(by_hand.with_name(f"{by_hand.name}-axe")))
    running.down()
    running.up(2)
    yield running
    if os.environ.get("OPENQRM_LAB_KEEP"):
        return
    running.down()
    assert running.leftovers() == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_round(seed: int, lab: Any) -> None:
    outcome = await play(make_plan(seed, seconds=LOAD_SECONDS, with_qemu=True), lab=lab)
    if outcome.findings:
        pytest.fail(outcome.report, pytrace=False)
