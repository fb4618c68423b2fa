"""A gateway on a loopback port of one installation, and clients of every role."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gateway_inventory import SimulatedInventory
from gateway_site import Site

from openqrm.contracts.ids import new_id
from openqrm.gateway.app import GatewayService


@pytest.fixture(scope="session")
async def site() -> AsyncIterator[Site]:
    site = Site()
    try:
        await site.start()
        yield site
    finally:
        await site.stop()


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
