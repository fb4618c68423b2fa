"""The samples of shared/contracts/samples: one for every message, read and written again without a difference."""

import json
import runpy
from pathlib import Path

import pytest

from openqrm.contracts.message import all_messages

SCRIPT = Path(__file__).with_name("make_samples.py")
MAKER = runpy.run_path(str(SCRIPT))
SAMPLES: Path = MAKER["SAMPLES"]
HINT = f"Run .venv/bin/python {SCRIPT.relative_to(SCRIPT.parents[2])} and read the difference."


def test_every_message_has_a_sample_and_every_sample_a_message():
    wanted = {MAKER["sample_path"](subject).name for subject in all_messages()}
    assert {path.name for path in SAMPLES.iterdir()} == wanted, HINT


@pytest.mark.parametrize("subject", all_messages())
def test_a_sample_goes_round_without_a_difference(subject):
    text = MAKER["sample_path"](subject).read_text("utf-8")
    message = all_messages()[subject].model_validate_json(text)
    assert json.loads(message.model_dump_json()) == json.loads(text), HINT


@pytest.mark.parametrize("subject", all_messages())
def test_a_sample_is_what_the_script_makes(subject):
    assert MAKER["sample_path"](subject).read_text("utf-8") == MAKER["make_sample"](all_messages()[subject]), HINT
