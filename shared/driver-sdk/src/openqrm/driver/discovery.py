"""Finds the drivers that are installed, by the entry point group `openqrm.drivers`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from openqrm.contracts.clock import Clock
from openqrm.contracts.technology import Manifest
from openqrm.driver.capabilities import Driver
from openqrm.driver.manifest import load_manifest

GROUP = "openqrm.drivers"

DriverFactory = Callable[[Clock], Driver]
"""Makes a driver; it reads its own settings from the environment. Nothing is reached before `connect`."""


@dataclass(frozen=True)
class InstalledDriver:
    """A driver that can be made; nothing of it runs yet."""

    technology: str
    package: str
    """Where its driver.toml lies, such as openqrm.executor_fake."""
    manifest: Manifest
    create: DriverFactory


def discover_drivers() -> dict[str, InstalledDriver]:
    """Every installed driver by its technology.

    Raises TypeError when an entry point's name is not the technology that its driver.toml declares.
    """
    return {driver.technology: driver for driver in map(_installed, entry_points(group=GROUP))}


def _installed(point: EntryPoint) -> InstalledDriver:
    package = point.module.rpartition(".")[0]
    manifest = load_manifest(package)
    if manifest.technology != point.name:
        raise TypeError(f"entry point {point.name} leads to a driver for {manifest.technology}: {package}")
    return InstalledDriver(manifest.technology, package, manifest, point.load())
