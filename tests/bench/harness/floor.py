"""Starts the floor's process (../floor.py) on a stack's NATS and PostgreSQL."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.http import HttpConnection
from harness.stack import PYTHON, Stack, free_port

PROGRAM = Path(__file__).resolve().parents[1] / "floor.py"
FLOOR = "floor: HTTP, 2 x JetStream out and back, 1 commit"


@asynccontextmanager
async def floor_of(stack: Stack) -> AsyncIterator[int]:
    """The port of the floor's process, which runs as long as the context."""
    port = await start_floor(stack)
    try:
        yield port
    finally:
        if "floor" in stack.processes:
            await stack.stop("floor")


async def start_floor(stack: Stack) -> int:
    """Start the floor's process on the stack's NATS and PostgreSQL; returns its port."""
    port = free_port()
    user = stack.environment("provisioner")
    login = f"{user['OPENQRM_NATS_USER']}:{user['OPENQRM_NATS_PASSWORD']}"
    environment = {
        "FLOOR_NATS": f"nats://{login}@127.0.0.1:{stack.nats_port}",
        "FLOOR_SOCKET": str(stack.postgres.socket_folder),
        "FLOOR_PASSWORD": stack.administrator,
        "PATH": os.environ["PATH"],
    }
    stack.launch("floor", [str(PYTHON), str(PROGRAM), str(port)], environment)

    async def answers() -> bool:
        try:
            async with HttpConnection(port) as http:
                return (await http.send("POST", "/"))[0] == 200
        except OSError:
            return False

    await stack.until(answers, 30, "the floor serves")
    return port
