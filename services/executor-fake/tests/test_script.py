"""Failures asked for by a partition's name."""

import pytest

from openqrm.contracts.execution import RunsOn
from openqrm.executor_fake.script import Script, Trouble, parse_script


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("web 1", Script()),
        ("wow! great", Script()),
        ("web !start-fails", Script(troubles={"start": (Trouble.FAILS, None)})),
        ("!start-fails=2 web", Script(troubles={"start": (Trouble.FAILS, 2)})),
        ("a !attach_nic-hangs", Script(troubles={"attach_nic": (Trouble.HANGS, None)})),
        (
            "a !create-falters=1 !start-breaks",
            Script(troubles={"create": (Trouble.FALTERS, 1), "start": (Trouble.BREAKS, None)}),
        ),
        ("a !migrate-slow=2.5", Script(slow={"migrate": 2.5})),
        ("a !migrate-ends-on=target", Script(migration_ends_on=RunsOn.TARGET)),
        ("a !crash-after=3 !off-after=0.5", Script(crash_after=3.0, off_after=0.5)),
        ("a !ignores-shutdown", Script(ignores_shutdown=True)),
        ("a !start-failsafe !ignores-shutdowns !migrate-ends-on=mars", Script()),
    ],
)
def test_the_grammar(name: str, script: Script) -> None:
    assert parse_script(name) == script
