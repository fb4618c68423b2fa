"""The floor of the embedded shape: its NATS and its PostgreSQL, and a Python that has imported the same libraries.

    floor_embedded.py PORT, with JSON on standard input: `programs` (uid, gid and command of each), `modules`,
    `nats_port`, `postgres` (what asyncpg.connect takes)

It answers HTTP on PORT once both programs answer, and ends them with itself.
"""

import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_POLL_SECONDS = 0.01


def launch(uid: int, gid: int, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a program as the embedded openQRM does; it ends when we do."""
    return subprocess.Popen(
        ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig=INT", "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"LC_ALL": "C"}, cwd="/",
    )  # fmt: skip


async def answer(nats_port: int, postgres: dict[str, Any]) -> None:
    """Return once NATS and PostgreSQL answer."""
    import asyncpg

    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            _, writer = await asyncio.open_connection("127.0.0.1", nats_port)
            writer.close()
            await (await asyncpg.connect(**postgres)).close()
            return
        await asyncio.sleep(_POLL_SECONDS)  # noqa: TID251 - nothing of ours is imported here


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Always well."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def main() -> None:
    """Serve until SIGINT."""
    given = json.load(sys.stdin)
    children = [launch(*program) for program in given["programs"]]
    for name in given["modules"]:
        with contextlib.suppress(Exception):  # a part of a library that cannot be imported by itself
            importlib.import_module(name)
    import uvicorn

    await answer(given["nats_port"], given["postgres"])
    config = uvicorn.Config(
        application, port=int(sys.argv[1]), log_level="warning", lifespan="off", access_log=False
    )  # fmt: skip
    try:
        await uvicorn.Server(config).serve()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(30)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
