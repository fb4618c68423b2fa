"""Where things are: every member of the workspace has the same shape."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(
    path.parent for folder in ("services", "shared", "deploy") for path in ROOT.glob(f"{folder}/*/pyproject.toml")
)

FOLDERS = {"deploy", "docs", "services", "shared", "tests"}
"""A new one at the top needs a reason that everybody can see: add it here."""

TEST_TIERS = {
    "architecture",
    "bench",
    "chaos",
    "contracts",
    "disasters",
    "e2e",
    "fuzz",
    "integration",
    "lab",
    "scenarios",
    "support",
}


def name_of(path: Path) -> str:
    """A path below the root, as a test's id."""
    return str(path.relative_to(ROOT))


def visible(folder: Path) -> set[str]:
    """The folders in a folder, without hidden ones and what tools leave behind."""
    return {each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__"))}


def module_of(member: Path) -> str:
    """The import name that a member's build is told."""
    project = tomllib.loads((member / "pyproject.toml").read_text("utf-8"))
    return str(project["tool"]["uv"]["build-backend"]["module-name"])


def test_top_level_folders():
    assert visible(ROOT) - {"build", "dist"} <= FOLDERS


def test_test_tiers():
    assert visible(ROOT / "tests") <= TEST_TIERS


@pytest.mark.parametrize("member", MEMBERS, ids=name_of)
def test_a_member_has_sources_tests_and_a_readme(member):
    module = module_of(member)
    package = member / "src" / Path(*module.split("."))
    assert (package / "__init__.py").exists()
    assert (package / "py.typed").exists()
    assert (member / "README.md").exists()
    assert list((member / "tests").rglob("test_*.py")), f"{name_of(member)} has no tests"


@pytest.mark.parametrize("member", MEMBERS, ids=name_of)
def test_a_member_holds_one_package_of_the_namespace(member):
    assert visible(member / "src") == {"openqrm"}
    assert visible(member / "src/openqrm") == {module_of(member).split(".")[1]}
    assert not list((member / "src/openqrm").glob("*.py")), "openqrm is a namespace without a package of its own"


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.parent.name == "services"], ids=name_of)
def test_a_service_is_called_after_its_folder(member):
    assert module_of(member) == f"openqrm.{member.name.replace('-', '_')}"


def test_import_rules_cover_every_member():
    text = (ROOT / ".importlinter").read_text("utf-8")
    roots = set(re.findall(r"openqrm\.\w+", text.split("root_packages")[1].split("include_external")[0]))
    assert roots == {module_of(member) for member in MEMBERS}


@pytest.mark.parametrize("member", MEMBERS, ids=name_of)
def test_nobody_imports_the_insides_of_faststream(member):
    users = [path for path in (member / "src").rglob("*.py") if "faststream._internal" in path.read_text("utf-8")]
    assert not users
