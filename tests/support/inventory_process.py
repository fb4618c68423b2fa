"""Inventory as a process of its own, which can be killed."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from contextlib import suppress

from support.control_plane import ControlPlane

from openqrm.contracts.errors import TemporaryError
from openqrm.contracts.message import INVENTORY
from openqrm.contracts.network import ListNetworks


async def start_inventory_process(plane: ControlPlane) -> Process:
    """Start it on the plane's NATS and PostgreSQL; returns when it answers."""
    environment = os.environ | {
        "OPENQRM_INVENTORY_DSN": plane.dsn,
        "OPENQRM_INVENTORY_SWEEP_SECONDS": "0.5",
        "OPENQRM_INVENTORY_STUCK_SECONDS": "1",
        "OPENQRM_NATS_URL": plane.nats.url,
        "OPENQRM_NATS_USER": INVENTORY,
        "OPENQRM_NATS_PASSWORD": plane.passwords[INVENTORY],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openqrm.inventory", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, "it ended"
            with suppress(TemporaryError):
                await plane.ask(ListNetworks())
                return process
            await plane.clock.sleep(0.1)


async def kill(process: Process) -> None:
    """As kill -9 does; harmless when it has ended."""
    if process.returncode is None:
        process.kill()
    await process.wait()
