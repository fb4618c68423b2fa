"""A large inventory, at three sizes: pages of its lists, the scheduler's rebuild, commands beside it."""

from collections.abc import AsyncIterator
from functools import partial

from harness.bench import Bench
from harness.row import Attempt
from large.commands import commands_row
from large.fill import SIZES
from large.pages import pages_row
from large.rebuild import rebuild_row
from large.stack import grow_to, large_stack

ORDER = 4


async def measure(bench: Bench) -> AsyncIterator[Attempt]:
    """Three rows for each size; the goals are for the largest."""
    stack = await large_stack(bench)
    for size in SIZES:
        await grow_to(stack, size)
        yield Attempt(f"rebuild of the scheduler's projection: {size}", partial(rebuild_row, stack, size))
        yield Attempt(f"pages: {size}", partial(pages_row, bench, stack, size))
        yield Attempt(f"commands beside: {size}", partial(commands_row, bench, stack, size))
