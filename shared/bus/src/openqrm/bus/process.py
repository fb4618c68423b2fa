"""A service as a process of its own: its bus, its logs, its probe, and a clean end on SIGTERM."""

import asyncio
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import uvloop
from nats.errors import Error as NatsError
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from openqrm.bus.bus import Bus
from openqrm.bus.cancelling import end
from openqrm.bus.settings import BusSettings, about_a_setting
from openqrm.contracts.clock import Clock, SystemClock
from openqrm.contracts.errors import OpenQrmError
from openqrm.telemetry.logs import configure_logs
from openqrm.telemetry.probe import make_probe
from openqrm.telemetry.tracing import Tracing

MANY_FILES = 65_536
"""Not more: some programs that are started look at every number that a file could have."""


class Service(Protocol):
    """What every service is."""

    async def start(self) -> None:
        """Begin to work; it starts the bus that it was given."""

    async def stop(self) -> None:
        """Finish what is in hand and let go of everything, the bus included."""


class ProcessSettings(BaseSettings):
    """What every service process has: from the environment as OPENQRM_PROBE_PORT and so on."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_", frozen=True)

    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_json: bool = Field(default=True, description="One JSON object per line; no: lines for people")
    otlp_endpoint: str | None = Field(
        default=None, description="Traces URL of an OpenTelemetry collector, such as http://collector:4318/v1/traces"
    )
    probe_host: str = Field(default="127.0.0.1", description="Address of /health and /metrics")
    probe_port: int | None = Field(default=None, ge=1, le=65535, description="Port of /health and /metrics; none: off")


def run_service(
    name: str,
    create: Callable[[Bus, Clock], Service],
    make_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run one service until SIGTERM or SIGINT. `name` is its name on the bus, such as inventory."""
    allow_many_files()
    with one_sentence():
        settings = ProcessSettings()
        configure_logs(settings.log_level, settings.log_json)
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(_run(name, create, settings))


async def _run(name: str, create: Callable[[Bus, Clock], Service], settings: ProcessSettings) -> None:
    asked = stop_signals()
    clock = SystemClock()
    bus = Bus(BusSettings(), name, clock, Tracing(name, settings.otlp_endpoint))
    service = create(bus, clock)
    if not await started(service, asked):
        return
    serving = None
    if settings.probe_port is not None:
        probe = make_probe(lambda: bus.trouble, settings.probe_host, settings.probe_port)
        serving = asyncio.create_task(probe.serve(), name="probe")
    await asked.wait()
    if serving is not None:
        await end([serving])
    await service.stop()


def allow_many_files() -> None:
    """Let this process open more files than by default, as far as it may: there is one per connection."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(most, MANY_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def stop_signals() -> asyncio.Event:
    """Set when SIGTERM or SIGINT comes."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


async def started(service: Service, asked: asyncio.Event) -> bool:
    """Start a service; False when it was asked to stop first, as while it waits for a NATS that is not there."""
    starting = asyncio.create_task(service.start(), name="start")
    stopping = asyncio.create_task(asked.wait(), name="asked to stop")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    await end([starting])
    return False


@contextmanager
def one_sentence() -> Iterator[None]:
    """What keeps a process from working is told in one sentence, and the process ends with status 1."""
    try:
        yield
    except (ValidationError, OpenQrmError, NatsError, OSError) as error:
        sentence = _explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)


def _explain(error: ValidationError | OpenQrmError | NatsError | OSError) -> str | None:
    if isinstance(error, ValidationError):
        return about_a_setting(error)
    if isinstance(error, OpenQrmError):
        return error.message
    if isinstance(error, NatsError):
        return (
            f"NATS at {BusSettings().url} does not let this service work: {str(error).removeprefix('nats: ')}. "
            "Check OPENQRM_NATS_URL, OPENQRM_NATS_USER, OPENQRM_NATS_PASSWORD and the user's rights."
        )
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}. Check the addresses and files in the environment of this service."
