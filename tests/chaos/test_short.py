"""The axe for a minute, on simulated hosts: everybody is killed once, and some are stopped or cut off."""

import pytest

from chaos.plan import make_plan
from chaos.round import given_seed, new_seed, play


@pytest.mark.timeout(400)
async def test_a_short_round() -> None:
    seed = given_seed()
    plan = make_plan(new_seed() if seed is None else seed, seconds=20, with_qemu=False, longest=5, kills_only=3)
    outcome = await play(plan)
    if outcome.findings:
        pytest.fail(outcome.report, pytrace=False)
