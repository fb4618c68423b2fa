"""A real NATS with the gateway's real rights, a real PostgreSQL, a gateway on a loopback port, a simulated inventory."""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from openqrm.bus.access import rights
from openqrm.bus.bus import Bus
from openqrm.bus.settings import BusSettings
from openqrm.bus.streams import provision
from openqrm.contracts.clock import SystemClock
from openqrm.contracts.ids import new_id
from openqrm.embedded.nats import EmbeddedNats, NatsUser
from openqrm.embedded.postgres import EmbeddedPostgres
from openqrm.gateway.app import GatewayService
from openqrm.gateway.settings import GatewaySettings
from openqrm.telemetry.tracing import Tracing

sys.path.insert(0, str(Path(__file__).parent))

from simulated_inventory import SimulatedInventory


class ShiftedClock(SystemClock):
    """The machine's clock, which a test can set forward."""

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.shift)

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


class Site:
    """One installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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


@pytest.fixture(scope="session")
async def site() -> AsyncIterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="openqrm-gateway-"))
    folder.chmod(0o711)
    site = Site(folder)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def gateway(site: Site) -> AsyncIterator[GatewayService]:
    gateway = site.gateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
def inventory(site: Site, gateway: GatewayService) -> SimulatedInventory:
    site.inventory.reset()
    return site.inventory


@pytest.fixture(scope="session")
def admin_token(site: Site, gateway: GatewayService) -> str:
    return (site.folder / "admin-token").read_text().strip()


MakeClient = Callable[[str | None], httpx.AsyncClient]


@pytest.fixture(scope="session")
async def make_client(gateway: GatewayService) -> AsyncIterator[MakeClient]:
    clients: list[httpx.AsyncClient] = []

    def make(token: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        clients.append(httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture(scope="session")
async def admin(make_client: MakeClient, admin_token: str) -> httpx.AsyncClient:
    return make_client(admin_token)


@pytest.fixture(scope="session")
async def anonymous(make_client: MakeClient) -> httpx.AsyncClient:
    return make_client(None)


async def token_of_role(admin: httpx.AsyncClient, role: str) -> str:
    """A token of the admin that can do no more than a role."""
    answer = await admin.post("/api/v1/tokens", json={"name": f"test {new_id()}", "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.fixture(scope="session")
async def viewer(make_client: MakeClient, admin: httpx.AsyncClient) -> httpx.AsyncClient:
    return make_client(await token_of_role(admin, "viewer"))


@pytest.fixture(scope="session")
async def operator(make_client: MakeClient, admin: httpx.AsyncClient) -> httpx.AsyncClient:
    return make_client(await token_of_role(admin, "operator"))
