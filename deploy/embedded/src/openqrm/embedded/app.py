"""The composition root of the embedded shape: every service in one process, on a NATS and a PostgreSQL of its own."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import Clock
from openqrm.contracts.message import CLIENT, EXECUTOR, GATEWAY, INVENTORY, SCHEDULER
from openqrm.driver.discovery import discover_drivers
from openqrm.driver.executor import ExecutorService
from openqrm.embedded.errors import StartError
from openqrm.embedded.libvirt_daemon import HostAbility, LibvirtDaemon
from openqrm.embedded.nats import EmbeddedNats, NatsUser
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.embedded.settings import EmbeddedSettings
from openqrm.embedded.state import StateFolder
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

    def __init__(self, state: StateFolder, settings: EmbeddedSettings, clock: Clock, say: Say) -> None:
        self._state = state
        self._settings = settings
        self._clock = clock
        self._say = say
        self._log = structlog.get_logger(service="embedded")
        self._technologies = settings.technologies
        self._users = self._make_users()
        self.postgres = EmbeddedPostgres(
            state.postgres, state.secrets.password("postgres"), clock, on_death=self._part_died
        )
        self.nats = EmbeddedNats(
            state.nats, list(self._users.values()), clock, port=settings.nats_port, on_death=self._part_died
        )
        self.libvirt = LibvirtDaemon(state.libvirt, clock, on_death=self._part_died)
        self.ability: HostAbility | None = None
        self.services: list[Service] = []
        self.inventory: InventoryService | None = None
        self.gateway: GatewayService | None = None
        self.died = asyncio.Event()

    # -------------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Start everything. Raises StartError, in one sentence, when a part cannot."""
        self._say("starting PostgreSQL and NATS")
        await asyncio.gather(self.postgres.start(), self.nats.start())
        if "qemu" in self._technologies and self._settings.local_host:
            self.ability = await self.libvirt.start()
        bus = self.bus(PROVISIONER)
        await bus.connect()
        await provision(bus.js, self._technologies)
        await bus.stop()
        self._say("starting the services")
        inventory_dsn = await self._database(INVENTORY)
        gateway_dsn = await self._database(GATEWAY)
        await self._start_inventory(inventory_dsn)
        await self._start(SchedulerService(self.bus(SCHEDULER), self._clock, SchedulerSettings()))
        for technology, factory in self._drivers().items():
            bus = self.bus(f"executor-{technology}")
            await self._start(factory(bus))
        await self._start_gateway(gateway_dsn)

    async def stop(self) -> None:
        """Stop everything in reverse order; running guests go on."""
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
        client = {"url": self.url, "token_file": str(self.token_file)}
        (self._state.path / "client.json").write_text(json.dumps(client) + "\n")

    def _part_died(self, sentence: str) -> None:
        self._say(sentence)
        self.died.set()

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

    def _drivers(self) -> dict[str, Callable[[Bus], Service]]:
        known = discover_drivers()
        unknown = sorted(set(self._technologies) - known.keys())
        if unknown:
            raise StartError(
                f"There is no driver for {', '.join(unknown)}. "
                f"OPENQRM_TECHNOLOGIES can name {', '.join(sorted(known))}."
            )

        def service(technology: str) -> Callable[[Bus], Service]:
            driver = known[technology]
            return lambda bus: ExecutorService(driver.create(self._clock), driver.manifest, bus, self._clock)

        return {technology: service(technology) for technology in self._technologies}
