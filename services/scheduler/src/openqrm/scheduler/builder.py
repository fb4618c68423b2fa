"""Reads inventory's lists page by page and builds a projection from them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel

from openqrm.bus.cancelling import end
from openqrm.contracts.host import HostSort, HostView, ListHosts
from openqrm.contracts.message import Query
from openqrm.contracts.network import ListNetworks, NetworkView
from openqrm.contracts.paging import Page, Paging
from openqrm.contracts.placement import ListPlacements, PlacedPartition
from openqrm.contracts.technology import ListTechnologies
from openqrm.scheduler.projection import Projection

Result = TypeVar("Result", bound=BaseModel)
Item = TypeVar("Item", bound=BaseModel)

LIST_TIMEOUT_SECONDS = 30.0
"""For one page: inventory may have just started, and all schedulers ask at once then."""


_NEVER = 2**30


class Asks(Protocol):
    """The part of the bus that is needed here."""

    async def request(self, query: Query[Result], timeout: float = 5.0) -> Result:
        """Ask and await the answer."""


async def build(asks: Asks, projection: Projection, page_size: int) -> Projection:
    """Fill a projection. Whatever changes meanwhile is in the events that follow.

    Sorted by what never changes, so that no item can slip from a page not read yet to one that was read.
    Raises TemporaryError when inventory does not answer.
    """
    technologies = await asks.request(ListTechnologies(), timeout=LIST_TIMEOUT_SECONDS)
    for technology in technologies.items:
        if technology.manifest:
            projection.put_manifest(technology.manifest)

    def networks(paging: Paging) -> Query[Page[NetworkView]]:
        return ListNetworks(paging=paging)

    def hosts(paging: Paging) -> Query[Page[HostView]]:
        return ListHosts(sort=HostSort.CREATED_AT, paging=paging)

    async def take_hosts() -> None:
        async for page in _walk(asks, hosts, page_size):
            for host in page:
                projection.put_host(host)

    async def take_partitions() -> None:
        async for page in _placements(asks):
            projection.put_partitions(page)

    async for page in _walk(asks, networks, page_size):
        for network in page:
            projection.put_network(network)
    # Side by side: while a page of one list is taken in, inventory makes the next one of the other.
    walks = [asyncio.create_task(take_hosts()), asyncio.create_task(take_partitions())]
    try:
        with _no_full_collections():
            await asyncio.gather(*walks)
    finally:
        await end(walks)
    return projection


@contextmanager
def _no_full_collections() -> Iterator[None]:
    """Python's garbage collector looks at young objects only.

    All that is read here stays; to look through it again and again takes a quarter of the time.
    """
    young, middle, full = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, full)


async def _placements(asks: Asks) -> AsyncIterator[tuple[PlacedPartition, ...]]:
    after: UUID | None = None
    while True:
        page = await asks.request(ListPlacements(after=after), timeout=LIST_TIMEOUT_SECONDS)
        yield page.items
        if page.is_last:
            return
        after = page.items[-1].id


async def _walk(
    asks: Asks, query: Callable[[Paging], Query[Page[Item]]], page_size: int
) -> AsyncIterator[tuple[Item, ...]]:
    cursor: str | None = None
    while True:
        page = await asks.request(query(Paging(limit=page_size, cursor=cursor)), timeout=LIST_TIMEOUT_SECONDS)
        yield page.items
        cursor = page.next_cursor
        if cursor is None:
            return
