"""No driver can skip the driver contract: whatever is installed as a driver has a manifest that holds, and runs it."""

import ast
import importlib
from pathlib import Path

import pytest

from openqrm.contracts.clock import SystemClock
from openqrm.contracts.technology import Capability
from openqrm.driver.discovery import InstalledDriver, discover_drivers
from openqrm.driver.manifest import PROTOCOLS, check_manifest

ROOT = Path(__file__).parents[2]
DRIVERS = discover_drivers()

pytestmark = pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS.keys())


def test_its_manifest_is_what_it_can_do(driver: InstalledDriver) -> None:
    check_manifest(driver.create(SystemClock()), driver.manifest)


def test_everything_it_cannot_do_has_a_reason(driver: InstalledDriver) -> None:
    for capability in Capability:
        if capability in PROTOCOLS or capability in driver.manifest.unsupported:
            continue
        assert capability in driver.manifest.capabilities, f"{capability}: neither declared nor explained"
    assert not driver.manifest.capabilities & driver.manifest.unsupported.keys()


def test_it_runs_the_contract(driver: InstalledDriver) -> None:
    contract = _unit(driver) / "tests" / "test_contract.py"
    assert contract.is_file(), f"{contract} is missing"
    classes = [node for node in ast.parse(contract.read_text()).body if isinstance(node, ast.ClassDef)]
    assert any(
        isinstance(base, ast.Name) and base.id == "DriverContract" and node.name.startswith("Test")
        for node in classes
        for base in node.bases
    ), f"no class Test… in {contract} is derived from DriverContract"


def test_its_process_starts_in_fifteen_lines(driver: InstalledDriver) -> None:
    app = _unit(driver) / "src" / Path(*driver.package.split(".")) / "app.py"
    tree = ast.parse(app.read_text())
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    lines = sum(node.end_lineno - node.lineno + 1 for node in code if node.end_lineno)
    assert lines <= 15, f"{app} has {lines} lines; a driver's service is the SDK's matter"


def _unit(driver: InstalledDriver) -> Path:
    module = importlib.import_module(driver.package)
    (path, *_) = module.__path__
    return Path(path).parents[2]


def test_its_unit_is_an_executor(driver: InstalledDriver) -> None:
    assert _unit(driver).parent == ROOT / "services"
    assert _unit(driver).name == f"executor-{driver.technology}"
