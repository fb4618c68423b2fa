import itertools

import pytest

from openqrm.contracts.execution import RunsOn
from openqrm.executor_qemu.verdicts import Place, who_has_it

P = Place
CASES = {
    (P.ACTIVE, P.ABSENT): RunsOn.SOURCE,
    (P.ACTIVE, P.INCOMING): RunsOn.SOURCE,
    (P.ACTIVE, P.HELD): RunsOn.SOURCE,
    (P.ACTIVE, P.STOPPED): RunsOn.SOURCE,
    (P.SPENT, P.ABSENT): RunsOn.SOURCE,
    (P.SPENT, P.HELD): RunsOn.TARGET,
    (P.ABSENT, P.HELD): RunsOn.TARGET,
    (P.STOPPED, P.HELD): RunsOn.TARGET,
    (P.ABSENT, P.ACTIVE): RunsOn.TARGET,
    (P.STOPPED, P.ACTIVE): RunsOn.TARGET,
    (P.STOPPED, P.ABSENT): RunsOn.SOURCE,
    (P.STOPPED, P.STOPPED): RunsOn.SOURCE,
    (P.ABSENT, P.STOPPED): RunsOn.TARGET,
    (P.ABSENT, P.ABSENT): RunsOn.NEITHER,
    (P.ACTIVE, P.ACTIVE): RunsOn.UNKNOWN,
    (P.SPENT, P.ACTIVE): RunsOn.UNKNOWN,
    (P.HELD, P.HELD): RunsOn.UNKNOWN,
    (P.ABSENT, P.INCOMING): RunsOn.UNKNOWN,
}


@pytest.mark.parametrize(("places", "expected"), list(CASES.items()))
def test_who_has_it(places: tuple[Place, Place], expected: RunsOn) -> None:
    assert who_has_it(*places) is expected


@pytest.mark.parametrize("places", list(itertools.product(Place, Place)))
def test_nobody_has_it_for_sure_while_a_host_is_silent_or_both_run_it(places: tuple[Place, Place]) -> None:
    if Place.UNREACHABLE in places or places == (Place.ACTIVE, Place.ACTIVE):
        assert who_has_it(*places) is RunsOn.UNKNOWN


@pytest.mark.parametrize("source", list(Place))
def test_a_copy_that_stands_still_wins_only_over_a_source_that_cannot_run(source: Place) -> None:
    wins = who_has_it(source, Place.HELD) is RunsOn.TARGET
    assert wins == (source in (Place.ABSENT, Place.STOPPED, Place.SPENT))
