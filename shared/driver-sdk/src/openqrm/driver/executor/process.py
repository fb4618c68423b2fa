"""An executor as a process of its own."""

import asyncio
import signal
from importlib.metadata import PackageNotFoundError, version

from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.contracts.clock import Clock, SystemClock
from openqrm.driver.discovery import DriverFactory
from openqrm.driver.executor.service import ExecutorService, service_name
from openqrm.driver.executor.settings import ExecutorSettings
from openqrm.driver.manifest import load_manifest
from openqrm.telemetry.logs import configure_logs
from openqrm.telemetry.tracing import Tracing


def create_executor(
    package: str,
    create_driver: DriverFactory,
    bus_settings: BusSettings | None = None,
    settings: ExecutorSettings | None = None,
    clock: Clock | None = None,
) -> ExecutorService:
    """Put an executor together; what is left out comes from the environment. `package` holds the driver.toml."""
    clock = clock or SystemClock()
    settings = settings or ExecutorSettings()
    manifest = load_manifest(package)
    name = service_name(manifest.technology)
    bus = Bus(bus_settings or BusSettings(), name, clock, Tracing(name, settings.otlp_endpoint))
    return ExecutorService(create_driver(clock), manifest, bus, clock, settings, _version_of(package))


def run_executor(package: str, create_driver: DriverFactory) -> None:
    """Run an executor until SIGTERM or SIGINT."""
    settings = ExecutorSettings()
    configure_logs(settings.log_level, settings.log_json)
    asyncio.run(_run(package, create_driver, settings))


async def _run(package: str, create_driver: DriverFactory, settings: ExecutorSettings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    service = create_executor(package, create_driver, settings=settings)
    await service.start()
    await stopped.wait()
    await service.stop()


def _version_of(package: str) -> str:
    try:
        return version(package.replace(".", "-").replace("_", "-"))
    except PackageNotFoundError:
        return ""
