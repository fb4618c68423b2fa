"""An executor as a process of its own."""

import asyncio

from openqrm.bus.process import run_service
from openqrm.driver.discovery import DriverFactory
from openqrm.driver.executor.service import ExecutorService, service_name
from openqrm.driver.manifest import load_manifest


def run_executor(package: str, create_driver: DriverFactory) -> None:
    """Run an executor until SIGTERM or SIGINT. `package` holds the driver.toml; settings are the environment's."""
    manifest = load_manifest(package)
    run_service(
        service_name(manifest.technology),
        lambda bus, clock: ExecutorService(create_driver(clock), manifest, bus, clock),
        asyncio.new_event_loop,  # drivers start daemons, and under uvloop the pipes to these stay open
    )
