"""How long a run takes and what it draws its random choices from; the same seed gives the same messages."""

import os
import random

SECONDS_VARIABLE = "OPENQRM_FUZZ_SECONDS"
SEED_VARIABLE = "OPENQRM_FUZZ_SEED"

SHORT_SECONDS = 40.0
"""What every run of the tests takes; `make fuzz` asks for more."""

SEED = int(os.environ.get(SEED_VARIABLE, "20"))
"""Printed with every failure, so that it can be repeated."""

SECONDS = float(os.environ.get(SECONDS_VARIABLE, str(SHORT_SECONDS)))
"""Of the whole run."""

IS_SHORT = SECONDS <= SHORT_SECONDS
"""A short run is the same every time: each subject and each kind of damage once."""

HTTP_SHARE = 0.45
MESSAGE_SHARE = 0.4
"""Of the seconds of a long run, for the routes and for messages of chance; the rest is what a short run does."""


def rng(purpose: str) -> random.Random:
    """A source of choices of its own for each purpose, so that a change of one does not change the others."""
    return random.Random(f"{SEED} {purpose}")  # noqa: S311 - repeatable, not secret
