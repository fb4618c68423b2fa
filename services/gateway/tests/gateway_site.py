"""One installation for tests: a real NATS with the gateway's real rights, a real PostgreSQL, a simulated inventory."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from gateway_inventory import SimulatedInventory

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import SystemClock
from openqrm.embedded.nats import EmbeddedNats, NatsUser
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.gateway.app import GatewayService
from openqrm.gateway.settings import GatewaySettings
from openqrm.persistence.connection import Connection
from openqrm.persistence.database import Database
from openqrm.telemetry.tracing import Tracing


class ShiftedClock(SystemClock):
    """The machine's clock, which a test can set forward."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.shift)

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class Site:
    """One installation."""

    def __init__(self) -> None:
        # not pytest's own folder: the account that the servers run as could not reach it
        self.folder = folder = Path(tempfile.mkdtemp(prefix="openqrm-gateway-"))
        folder.chmod(0o711)
        self.clock = ShiftedClock()
        allowed = rights("gateway", "gateway")
        self.nats = EmbeddedNats(
            folder / "nats",
            [
                NatsUser("inventory", "i", [">"], [">"], allow_responses=True),
                NatsUser("gateway", "g", allowed.publish, allowed.subscribe, publish_deny=allowed.publish_denied),
            ],
            self.clock,
            port=None,
        )
        self.postgres = EmbeddedPostgres(folder / "postgres", "secret", self.clock)
        self.dsn = ""

    async def start(self) -> None:
        await self.nats.start()
        await self.postgres.start()
        self.dsn = await self.postgres.ensure_database("gateway", "gateway", "pw")
        self.inventory = SimulatedInventory(self.bus("inventory", "i"))
        self.inventory.reset()
        await self.inventory.bus.connect()
        await provision(self.inventory.bus.js, ["fake"])
        await self.inventory.start()

    async def stop(self) -> None:
        await self.inventory.bus.stop()
        await self.nats.stop()
        await self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @asynccontextmanager
    async def database_of_gateway(self) -> AsyncIterator[Connection]:
        """A transaction on the gateway's database, behind its back."""
        database = Database(self.dsn, "gateway", 2)
        try:
            async with database.transaction() as connection:
                yield connection
        finally:
            await database.close()

    def bus(self, user: str, password: str) -> Bus:
        settings = BusSettings(url=self.nats.url, user=user, password=password)
        return Bus(settings, user, self.clock, Tracing(user))

    def gateway(self, **settings: object) -> GatewayService:
        bus = self.bus("gateway", "g")
        values = {
            "dsn": self.dsn,
            "port": 0,
            "initial_token_file": self.folder / "admin-token",
            "image_folder": self.folder / "images",
            "credential_cache_seconds": 0.2,
            "image_disk_reserve_bytes": 0,
        }
        return GatewayService(bus, self.clock, GatewaySettings(**(values | settings)), bus.tracing)  # type: ignore[arg-type]
