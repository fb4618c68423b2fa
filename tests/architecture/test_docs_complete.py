"""What is there is documented: units, settings, subjects; and what is documented is there."""

import ast
import re
import runpy
from pathlib import Path

import pytest

from openqrm.contracts.message import all_messages

ROOT = Path(__file__).parents[2]
UNITS = sorted(path.parent for folder in ("services", "shared", "deploy") for path in ROOT.glob(f"{folder}/*/src"))
SCRIPT = Path(__file__).with_name("make_subjects.py")
MAKER = runpy.run_path(str(SCRIPT))

MAX_LINES = 100
MIN_LINES = 12
"""Below this a README says no more than the name does."""

NOUNS = {subject.split(".")[0] for subject in all_messages()}


def name_of(path: Path) -> str:
    """A path below the root, as a test's id."""
    return str(path.relative_to(ROOT))


def settings_of(unit: Path) -> list[tuple[str, str]]:
    """Class and field of every setting of a unit."""
    found = []
    for path in sorted((unit / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith("BaseSettings") for base in node.bases
            ):
                found += [
                    (node.name, each.target.id)
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                ]
    return found


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_every_unit_has_a_readme(unit):
    readme = unit / "README.md"
    assert readme.exists(), f"{name_of(unit)} has no README.md: what it owns, its subjects, what always holds of it"
    lines = readme.read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert MIN_LINES <= len(lines) <= MAX_LINES, f"{name_of(readme)} has {len(lines)} lines"


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_every_setting_is_in_the_readme(unit):
    readme = unit / "README.md"
    text = readme.read_text("utf-8") if readme.exists() else ""
    words = {word.lower() for word in re.findall(r"\w+", text)}
    missing = [
        f"{owner}.{field}"
        for owner, field in settings_of(unit)
        if field not in words and not any(word.startswith("openqrm_") and word.endswith(f"_{field}") for word in words)
    ]
    assert not missing, f"{name_of(readme)} says nothing about {', '.join(missing)}"


@pytest.mark.parametrize(
    "document",
    sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("docs/decisions/*.md"),
            *(unit / "README.md" for unit in UNITS if (unit / "README.md").exists()),
        ]
    ),
    ids=name_of,
)
def test_every_subject_that_a_document_names_exists(document):
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", document.read_text("utf-8")))
    heads = {".".join(subject.split(".")[:2]) for subject in all_messages()}
    files = {f"{noun}.{ending}" for noun in NOUNS for ending in ("py", "md", "toml", "json", "sh")}
    fields = {"operation.id", "operation.error", "partition.epoch"}
    unknown = {each for each in named if each.split(".")[0] in NOUNS} - heads - files - fields
    assert not unknown, f"{name_of(document)} names {', '.join(sorted(unknown))}, which no contract has"


def test_the_table_of_subjects_is_current():
    assert MAKER["DOCUMENT"].read_text("utf-8") == MAKER["render"](), (
        f"Run .venv/bin/python {SCRIPT.relative_to(ROOT)} and commit what it writes."
    )


def test_every_subject_is_in_the_table():
    text = MAKER["DOCUMENT"].read_text("utf-8")
    assert all(f"| `{subject}` |" in text for subject in all_messages())


def test_every_message_says_what_it_means():
    assert [
        model.__name__ for model in all_messages().values() if not (model.__dict__.get("__doc__") or "").strip()
    ] == []


def test_decisions_are_numbered_and_complete():
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    for number, decision in enumerate(decisions, 1):
        assert decision.name.startswith(f"{number:04d}-")
        text = decision.read_text("utf-8")
        assert text.startswith(f"# {number:04d} ")
        for part in ("Context", "Decision", "Consequence", "Look at it again"):
            assert f"**{part}" in text, f"{decision.name} has no {part}"


def test_the_architecture_page_is_short():
    assert len((ROOT / "docs/architecture.md").read_text("utf-8").splitlines()) <= 150
