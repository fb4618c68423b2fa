"""docs/states.md is drawn from the transition tables as they are."""

from pathlib import Path

from openqrm.inventory.diagrams import make_document

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "states.md"


def test_the_drawn_states_are_those_of_the_tables() -> None:
    assert make_document() == DOCUMENT.read_text("utf-8"), "run python -m openqrm.inventory.diagrams > docs/states.md"
