"""What a group of rows is given: stacks that are shared and made when first asked for, and processes for its load."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from harness.profiling import profile
from harness.stack import Stack
from openqrm.contracts.clock import SystemClock

LOAD = Path(__file__).resolve().parents[1] / "load.py"
PROFILE_SECONDS = 6.0


class Bench:
    """The means of measuring.

    Attributes:
        flat_seconds: how long the rows that look for leaks put load on the stack.
    """

    def __init__(self, flat_seconds: float = 120.0) -> None:
        self.clock = SystemClock()
        self.flat_seconds = flat_seconds
        self._shared: dict[str, Stack] = {}
        self._leave = AsyncExitStack()

    async def stack(self, name: str = "small", fill: Callable[[Stack], Awaitable[None]] | None = None) -> Stack:
        """The running stack of this name, the same for every row; `fill` loads its inventory when it is made."""
        if name not in self._shared:
            stack = Stack(name)
            self._leave.push_async_callback(stack.close)
            say(f"starting the stack {name!r}")
            await stack.start(fill)
            self._shared[name] = stack
        return self._shared[name]

    async def close(self) -> None:
        """End every stack; those that are asked for later are made anew."""
        self._shared.clear()
        await self._leave.aclose()

    async def load(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Run a function of a row's file in a process of its own; arguments and result pass as JSON."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(LOAD), function.__module__, function.__name__,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )  # fmt: skip
        try:
            output, errors = await process.communicate(json.dumps(arguments).encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise RuntimeError(f"{function.__name__} failed: {errors.decode(errors='replace').strip()[-600:]}")
        return json.loads(output)

    def profiled(self, stack: Stack, work: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[str]]:
        """An explanation of a row: its work once more, while every Python process is looked into."""

        async def explain() -> str:
            task = asyncio.ensure_future(work())
            await self.clock.sleep(1.0)
            text = await profile(stack.python_pids, PROFILE_SECONDS)
            await task
            return text

        return explain


def say(text: str) -> None:
    """Tell whoever waits what goes on; not part of the table."""
    print(f"  {text}", file=sys.stderr, flush=True)
