"""The command line against a real gateway on a loopback port (with the gateway's own test installation)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "gateway" / "tests"))

from gateway_inventory import SimulatedInventory
from gateway_site import Site

from openqrm.cli.main import app
from openqrm.gateway.app import GatewayService


@dataclass
class Ran:
    """What a run of the program gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


class Cli:
    """Runs the program, in this process or as one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.env = {
            "OPENQRM_STATE": str(self.state), "XDG_CONFIG_HOME": str(folder / "config"), "TERM": "dumb",
            "COLUMNS": "200", "NO_COLOR": "1", "HOME": str(folder),
        }  # fmt: skip

    def write_client_json(self, url: str, token: str) -> None:
        self.state.mkdir(exist_ok=True)
        (self.state / "admin-token").write_text(token + "\n")
        document = {"url": url, "token_file": str(self.state / "admin-token")}
        (self.state / "client.json").write_text(json.dumps(document))

    async def run(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Ran:
        """In this process, in a thread."""
        runner = CliRunner()
        result = await asyncio.to_thread(
            runner.invoke, app, list(arguments), input=stdin, env={**self.env, **(env or {})}, prog_name="openqrm"
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """As a process of its own, between pipes."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openqrm.cli", *arguments, env={**os.environ, **self.env},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


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


@pytest.fixture(scope="session")
def admin_token(site: Site, gateway: GatewayService) -> str:
    return (site.folder / "admin-token").read_text().strip()


@pytest.fixture
def inventory(site: Site, gateway: GatewayService) -> SimulatedInventory:
    site.inventory.reset()
    return site.inventory


@pytest.fixture
def cli(tmp_path: Path, gateway: GatewayService, admin_token: str, inventory: SimulatedInventory) -> Cli:
    cli = Cli(tmp_path)
    cli.write_client_json(gateway.url, admin_token)
    return cli
