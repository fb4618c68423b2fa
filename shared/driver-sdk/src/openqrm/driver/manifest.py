"""Reads a driver's driver.toml."""

import tomllib
from importlib.resources import files

from openqrm.contracts.technology import Capability, Manifest
from openqrm.driver import capabilities

PROTOCOLS: dict[Capability, type] = {
    Capability.LIFECYCLE: capabilities.Lifecycle,
    Capability.OBSERVATION: capabilities.Observation,
    Capability.PAUSE: capabilities.Pause,
    Capability.RESIZE: capabilities.Resize,
    Capability.CPU_PINNING: capabilities.CpuPinning,
    Capability.NICS: capabilities.Nics,
    Capability.DISKS: capabilities.Disks,
    Capability.MIGRATION: capabilities.Migration,
    Capability.CONSOLE: capabilities.Console,
    Capability.HOST_PREPARATION: capabilities.HostPreparation,
}


def load_manifest(package: str) -> Manifest:
    """The manifest in the driver.toml that lies inside a driver's package, such as openqrm.executor_qemu."""
    return Manifest.model_validate(tomllib.loads(files(package).joinpath("driver.toml").read_text("utf-8")))


def check_manifest(driver: object, manifest: Manifest) -> None:
    """Raise TypeError unless the driver has exactly what its manifest declares, with a reason for each gap."""
    for capability, protocol in PROTOCOLS.items():
        declared, present = capability in manifest.capabilities, isinstance(driver, protocol)
        if declared and not present:
            raise TypeError(f"{manifest.technology}: {capability} is declared, but {protocol.__name__} is not there")
        if present and not declared:
            raise TypeError(f"{manifest.technology}: {protocol.__name__} is there, but {capability} is not declared")
        if not declared and capability not in manifest.unsupported:
            raise TypeError(f"{manifest.technology}: {capability} is not declared, and no reason is given")
