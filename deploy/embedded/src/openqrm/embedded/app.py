"""The composition root of the embedded shape: every service in one process, on a NATS and a PostgreSQL of its own."""

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import structlog
from nats.errors import Error as NatsError

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import Clock
from openqrm.contracts.message import CLIENT, EXECUTOR, GATEWAY, INVENTORY, SCHEDULER
from openqrm.driver.discovery import InstalledDriver, discover_drivers
from openqrm.driver.executor import ExecutorService
from openqrm.embedded.disk_watch import DiskWatch
from openqrm.embedded.errors import StartError
from openqrm.embedded.libvirt_daemon import HostAbility, LibvirtDaemon
from openqrm.embedded.nats import EmbeddedNats, NatsUser, holder_of
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.embedded.secret_store import write_private
from openqrm.embedded.settings import EmbeddedSettings
from openqrm.embedded.state import StateFolder
from openqrm.embedded.supervision import Supervisor
from openqrm.gateway.app import GatewayService
from openqrm.gateway.settings import GatewaySettings
from openqrm.inventory.app import InventoryService
from openqrm.inventory.settings import InventorySettings
from openqrm.scheduler.app import SchedulerService
from openqrm.scheduler.settings import SchedulerSettings
from openqrm.telemetry.tracing import Tracing

PROVISIONER = "provisioner"
"""The NATS user that makes streams and consumers; no service has its rights."""

SETUP = "setup"
"""The NATS user that enrols this machine and registers the demonstration image: any client's rights."""

Say = Callable[[str], None]


class Service(Protocol):
    """What every service is."""

    async def start(self) -> None:
        """Begin to work."""

    async def stop(self) -> None:
        """Let go of everything."""


class EmbeddedStack:
    """Everything, started in order and stopped in reverse."""

    def __init__(self, state: StateFolder, settings: EmbeddedSettings, clock: Clock, say: Say, warn: Say) -> None:
        self._state = state
        self._settings = settings
        self._clock = clock
        self._say = say
        self._log = structlog.get_logger(service="embedded")
        self._technologies = settings.technologies
        self._known_drivers = discover_drivers()
        self._check_technologies()
        self._users = self._make_users()
        watch_postgres = Supervisor("PostgreSQL", lambda: self.postgres.start(), clock, say, warn)
        watch_nats = Supervisor("NATS", self._start_nats_again, clock, say, warn)
        watch_libvirt = Supervisor("libvirtd", self._start_libvirt, clock, say, warn)
        self._watch_nats = watch_nats
        self._watchers = (
            watch_postgres,
            watch_nats,
            watch_libvirt,
            DiskWatch(state.path, clock, say, warn, self._go_on_writing),
        )
        self.postgres = EmbeddedPostgres(
            state.postgres, state.secrets.password("postgres"), clock, on_death=watch_postgres.died
        )
        self.nats = EmbeddedNats(
            state.nats, list(self._users.values()), clock, port=settings.nats_port, on_death=watch_nats.died
        )
        self.libvirt = LibvirtDaemon(state.libvirt, clock, on_death=watch_libvirt.died)
        self.ability: HostAbility | None = None
        self.services: list[Service] = []
        self.inventory: InventoryService | None = None
        self.gateway: GatewayService | None = None

    # -------------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Start everything. Raises StartError, in one sentence, when a part cannot."""
        _check_http_port(self._settings.http_host, self._settings.http_port)
        self._say("starting PostgreSQL and NATS")
        await _together(self.postgres.start(), self.nats.start())
        if "qemu" in self._technologies and self._settings.local_host:
            self.ability = await self.libvirt.start()
        await self._provision()
        self._say("starting the services")
        inventory_dsn = await self._database(INVENTORY)
        gateway_dsn = await self._database(GATEWAY)
        await self._start_inventory(inventory_dsn)
        await self._start(SchedulerService(self.bus(SCHEDULER), self._clock, SchedulerSettings()))
        for technology, factory in self._drivers().items():
            bus = self.bus(f"executor-{technology}")
            await self._start(factory(bus))
        await self._start_gateway(gateway_dsn)
        for watcher in self._watchers:
            watcher.begin()

    async def stop(self) -> None:
        """Stop everything in reverse order; running guests go on."""
        for watcher in self._watchers:
            await watcher.end()
        for service in reversed(self.services):
            try:
                await service.stop()
            except Exception:  # noqa: BLE001 - one part must not keep the others from being stopped
                self._log.exception("a service did not stop cleanly", service_type=type(service).__name__)
        self.services.clear()
        await self.libvirt.stop()
        await self.nats.stop()
        await self.postgres.stop()

    async def _start(self, service: Service) -> None:
        self.services.append(service)
        await service.start()

    async def _start_inventory(self, dsn: str) -> None:
        bus = self.bus(INVENTORY)
        self.inventory = InventoryService(bus, self._clock, InventorySettings(dsn=dsn), bus.tracing)
        await self._start(self.inventory)

    async def _start_gateway(self, dsn: str) -> None:
        bus = self.bus(GATEWAY)
        settings = GatewaySettings(
            dsn=dsn,
            host=self._settings.http_host,
            port=self._settings.http_port,
            initial_token_file=self.token_file,
            image_folder=self._state.images,
        )
        self.gateway = GatewayService(bus, self._clock, settings, bus.tracing)
        await self._start(self.gateway)
        self._tell_clients()

    def _tell_clients(self) -> None:
        """Leave word for the programs of this machine's owner: where to find us, and with which secrets."""
        password_file = self._state.path / "nats-password"
        client = {
            "url": self.url,
            "token_file": str(self.token_file),
            "nats_url": self.nats.url,
            "nats_user": CLIENT,
            "nats_password_file": str(password_file),
        }
        try:
            write_private(password_file, self._users[CLIENT].password + "\n")
            write_private(self._state.path / "client.json", json.dumps(client, indent=2) + "\n")
        except OSError as error:
            raise StartError(f"cannot write in the state folder {self._state.path}: {error.strerror}") from error

    async def _provision(self) -> None:
        bus = self.bus(PROVISIONER)
        await bus.connect()
        try:
            await provision(bus.js, self._technologies, clock=self._clock)
        finally:
            await bus.stop()

    async def _start_nats_again(self) -> None:
        """NATS ended by itself; what made it end may have taken its store along, streams and all."""
        if self.nats.pid is None:
            await self.nats.start()
        try:
            await self._provision()
        except (NatsError, TimeoutError) as error:
            raise StartError(f"NATS runs and does not take its streams: {error or type(error).__name__}") from error

    async def _go_on_writing(self) -> None:
        """There is room on the disk: wake a NATS that had given up."""
        if self.nats.gave_up_writing:
            self._say("starting NATS anew, which had found no room on the disk")
            try:
                await self.nats.restart()
            except StartError as error:
                self._watch_nats.died(str(error))

    async def _start_libvirt(self) -> None:
        self.ability = await self.libvirt.start()
        if not self.ability.available:
            raise StartError(f"this machine cannot be a QEMU host any more: {self.ability.reason}")

    # -------------------------------------------------------------------------------------------- parts

    @property
    def token_file(self) -> Path:
        """Where the first administrator's token lies."""
        return self._state.path / "admin-token"

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return self.gateway.url if self.gateway else ""

    def bus(self, user: str) -> Bus:
        """A connection to the bus as one of its users."""
        settings = BusSettings(url=self.nats.url, user=user, password=self._users[user].password)
        return Bus(settings, user, self._clock, Tracing(user, self._settings.otlp_endpoint))

    async def _database(self, owner: str) -> str:
        return await self.postgres.ensure_database(owner, owner, self._state.secrets.password(f"postgres-{owner}"))

    def _make_users(self) -> dict[str, NatsUser]:
        roles = {INVENTORY: INVENTORY, SCHEDULER: SCHEDULER, GATEWAY: GATEWAY, SETUP: CLIENT, "client": CLIENT}
        roles |= {f"executor-{technology}": EXECUTOR for technology in self._technologies}
        passwords = self._state.secrets.passwords([f"nats-{user}" for user in [*roles, PROVISIONER]])
        users = {
            PROVISIONER: NatsUser(PROVISIONER, passwords[f"nats-{PROVISIONER}"], [">"], [">"], allow_responses=True)
        }
        for user, role in roles.items():
            technology = user.removeprefix("executor-") if role == EXECUTOR else None
            allowed = rights(role, user, technology)
            users[user] = NatsUser(
                user,
                passwords[f"nats-{user}"],
                allowed.publish,
                allowed.subscribe,
                publish_deny=allowed.publish_denied,
                allow_responses=True,
            )
        return users

    def _check_technologies(self) -> None:
        unknown = sorted(set(self._technologies) - self._known_drivers.keys())
        if unknown:
            raise StartError(
                f"there is no driver for {', '.join(map(repr, unknown))}: "
                f"OPENQRM_TECHNOLOGIES can name {', '.join(sorted(self._known_drivers))}"
            )

    def _drivers(self) -> dict[str, Callable[[Bus], Service]]:
        def service(driver: InstalledDriver) -> Callable[[Bus], Service]:
            return lambda bus: ExecutorService(driver.create(self._clock), driver.manifest, bus, self._clock)

        return {technology: service(self._known_drivers[technology]) for technology in self._technologies}


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """All at once; when one fails the others are ended before its error is raised.

    Nothing may be left for asyncio.run to cancel: it cancels the tasks inside of asyncio, too, and Python 3.11 then
    waits for ever for a child process that was about to be started.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check_http_port(host: str, port: int) -> None:
    """Look before anything is started; who takes the port in the meantime is noticed by the gateway."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the gateway does
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} for HTTP is in use {holder_of(port)}: end it, or set OPENQRM_HTTP_PORT to another one"
            ) from error
        if error.errno == errno.EACCES:
            raise StartError(
                f"this user may not listen on port {port}: set OPENQRM_HTTP_PORT to one above 1023"
            ) from error
        raise StartError(
            f"the gateway cannot listen on {host}:{port} ({error.strerror}): set OPENQRM_HTTP_HOST to an address "
            "of this machine"
        ) from error
