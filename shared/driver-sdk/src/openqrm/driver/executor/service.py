"""A driver as a service: announces itself, looks after hosts, carries out routed commands, answers for consoles."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from importlib import metadata
from typing import Any

import structlog
from nats.errors import Error as NatsError

from openqrm.bus.bus import Bus
from openqrm.bus.consumer import Handler
from openqrm.bus.streams import executor_durable
from openqrm.contracts.clock import Clock
from openqrm.contracts.console import OpenConsole, TakeScreenshot
from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.execution import ExecuteCancelOperation, HostExecution, PartitionExecution
from openqrm.contracts.message import Kind, Message, RoutedCommand, messages_of
from openqrm.contracts.technology import ExecutorAnnounced, Manifest
from openqrm.driver.capabilities import Driver
from openqrm.driver.executor.cancelling import end
from openqrm.driver.executor.consoles import Consoles
from openqrm.driver.executor.deadlines import Deadlines
from openqrm.driver.executor.executions import Executions
from openqrm.driver.executor.gates import Stagger
from openqrm.driver.executor.hosts import Hosts
from openqrm.driver.executor.settings import ExecutorSettings
from openqrm.driver.executor.supervisor import Surroundings
from openqrm.driver.manifest import check_manifest
from openqrm.telemetry import metrics

ANNOUNCE_RETRY_SECONDS = 2.0


def service_name(technology: str) -> str:
    """The name of a technology's executor, which is also its NATS user and its durable consumer."""
    return f"executor-{technology}"


class ExecutorService:
    """One executor. It starts and stops the bus that it is given, which must not be started before.

    `settings` are the environment's when left out, `version` is the installed one of openqrm-executor-<technology>.
    Raises TypeError when the driver is not what its manifest declares, ValueError when the bus has another name.
    """

    def __init__(
        self,
        driver: Driver,
        manifest: Manifest,
        bus: Bus,
        clock: Clock,
        settings: ExecutorSettings | None = None,
        version: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        check_manifest(driver, manifest)
        if bus.service != service_name(manifest.technology):
            raise ValueError(f"the bus belongs to {bus.service}, not to {service_name(manifest.technology)}")
        self.manifest = manifest
        self._driver = driver
        self._bus = bus
        self._clock = clock
        self._settings = settings = settings or ExecutorSettings()
        self._version = version if version is not None else _installed_version(manifest.technology)
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[bool] = Counter()
        self._deadlines = Deadlines(clock)
        self._hosts = Hosts(
            manifest.technology,
            Surroundings(
                technology=manifest.technology,
                driver=driver,
                bus=bus,
                clock=clock,
                settings=settings,
                deadlines=self._deadlines,
                stagger=Stagger(settings.connects_at_once, settings.connect_hold, clock),
                rng=rng or random.Random(),  # noqa: S311 - jitter, not a secret
                count=self._count,
                spawn=self._spawn,
            ),
            on_lost=self._announce_again,
        )
        parts = (driver, manifest, bus, clock, settings, self._hosts, self._deadlines)
        self._executions = Executions(*parts)
        self._consoles = Consoles(*parts)
        self._log = structlog.get_logger(service=bus.service)

    @property
    def hosts(self) -> Hosts:
        """The hosts that it looks after."""
        return self._hosts

    @property
    def is_ready(self) -> bool:
        """Whether the bus is reachable and the hosts were learned once."""
        return self._bus.is_connected and self._hosts.are_known

    async def start(self) -> None:
        """Connect to the bus and begin. Hosts are learned and connected in the background."""
        technology = self.manifest.technology
        self._bus.consume(
            executor_durable(technology), self._handlers(), key=_key, concurrency=self._settings.concurrency
        )
        self._bus.answer(OpenConsole, self._consoles.open_console, technology=technology)
        self._bus.answer(TakeScreenshot, self._consoles.take_screenshot, technology=technology)
        await self._bus.start()
        self._spawn(self._announce())
        self._hosts.start()
        self._log.info("executor started", technology=technology)

    async def stop(self) -> None:
        """Finish running executions within the limit, hand the others back, and let go of bus, hosts and driver."""
        await self._executions.drain(self._settings.drain_limit)
        await self._consoles.stop()
        await self._hosts.stop()
        await end(self._tasks)
        await self._bus.stop()
        await self._driver.close()
        await self._deadlines.stop()
        self._log.info("executor stopped", technology=self.manifest.technology)

    def _announce_again(self) -> None:
        self._spawn(self._announce())

    async def _announce(self) -> None:
        while True:
            try:
                await self._bus.publish(ExecutorAnnounced(manifest=self.manifest, version=self._version))
            except (TemporaryError, NatsError) as error:
                self._log.warning("the executor could not announce itself; trying again", reason=str(error))
                await self._clock.sleep(ANNOUNCE_RETRY_SECONDS)
            else:
                return

    def _handlers(self) -> dict[type[Message], Handler]:
        handlers: dict[type[Message], Handler] = {}
        for model in messages_of(Kind.ROUTED_COMMAND):
            if issubclass(model, PartitionExecution | HostExecution):
                handlers[model] = self._executions.execute
            elif model is ExecuteCancelOperation:
                handlers[model] = self._executions.cancel
            else:
                raise TypeError(f"nothing handles {model.__name__}")
        return handlers

    def _count(self, before: bool | None, now: bool | None) -> None:
        if before is not None:
            self._counts[before] -= 1
        if now is not None:
            self._counts[now] += 1
        for reachable in (True, False):
            metrics.HOSTS.labels(self._bus.service, "yes" if reachable else "no").set(self._counts[reachable])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _installed_version(technology: str) -> str:
    try:
        return metadata.version(f"openqrm-executor-{technology}")
    except metadata.PackageNotFoundError:
        return ""


def _key(command: RoutedCommand) -> str | None:
    """What is done one after the other: the commands on one partition, and those on a host itself."""
    if isinstance(command, PartitionExecution):
        return str(command.partition.id)
    if isinstance(command, HostExecution):
        return f"host {command.host_id}"
    return None
