"""The lock on the contracts: a message whose shape changes gets a higher version."""

import runpy
from pathlib import Path

from pydantic import Field

from openqrm.contracts.message import Message

SCRIPT = Path(__file__).with_name("make_fingerprints.py")
LOCKER = runpy.run_path(str(SCRIPT))
COMMAND = f".venv/bin/python {SCRIPT.relative_to(SCRIPT.parents[2])}"


def test_no_shape_changed_without_a_version():
    changed = LOCKER["changed_without_version"]()
    assert not changed, (
        f"The schema of {', '.join(changed)} is no longer the one that is locked. If programs of the old shape can "
        f"read the new messages and the other way round, raise version= in the class arguments; if not, make a new "
        f"subject and keep the old one until nobody uses it. Then run {COMMAND}. "
        f"Before the first release: {COMMAND} --unreleased."
    )


def test_the_lock_is_current():
    assert LOCKER["locked"]() == LOCKER["current"](), f"Run {COMMAND} and commit what it writes."


def test_what_counts_as_shape():
    class Before(Message):
        """One wording."""

        description: str = Field(description="one")
        title: int = 0

    class Reworded(Message):
        """Another wording."""

        description: str = Field(description="another", examples=["such as this"])
        title: int = 0

    class Reshaped(Message):
        """One wording."""

        description: str = Field(description="one")

    shape = LOCKER["_shape"]
    before, reworded, reshaped = (shape(model.model_json_schema()) for model in (Before, Reworded, Reshaped))
    assert before == reworded
    assert before != reshaped
