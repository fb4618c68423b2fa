"""The script that `make up` and `make test` begin with. What it installs is tried on fresh machines, not here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
BOOTSTRAP = REPOSITORY / "deploy" / "bootstrap"


def table() -> dict[str, tuple[str, str]]:
    """Package -> (up or test, reason)."""
    rows = re.findall(r"^\??([a-z0-9.+-]+) *\| *(\w+) *\| *(.+)$", BOOTSTRAP.read_text(), re.MULTILINE)
    return {name: (kind, reason) for name, kind, reason in rows}


def test_every_package_has_a_target_and_a_reason() -> None:
    assert len(table()) > 30
    assert {kind for kind, _ in table().values()} == {"up", "test"}


def test_the_demonstration_image_can_be_built_after_up() -> None:
    build = REPOSITORY / "deploy" / "demo-image" / "build.py"
    if not build.exists():
        pytest.skip("there is no demonstration image")
    output = subprocess.run([sys.executable, str(build), "--packages"], capture_output=True, text=True, check=True)
    installed = {name for name, (kind, _) in table().items() if kind == "up"}
    assert set(output.stdout.split()) <= installed


@pytest.mark.parametrize("arguments", [[], ["down"]])
def test_a_wrong_target_is_told_the_right_ones(arguments: list[str]) -> None:
    result = subprocess.run([str(BOOTSTRAP), *arguments], capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stderr == "openQRM: usage: deploy/bootstrap up|test [COMMAND...]\n"
