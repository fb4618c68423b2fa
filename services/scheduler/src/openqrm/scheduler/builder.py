"""Reads inventory's lists page by page and builds a projection from them."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel

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

    async for network in _walk(asks, networks, page_size):
        projection.put_network(network)
    async for host in _walk(asks, hosts, page_size):
        projection.put_host(host)
    async for partition in _placements(asks):
        projection.put_partition(partition)
    return projection


async def _placements(asks: Asks) -> AsyncIterator[PlacedPartition]:
    after: UUID | None = None
    while True:
        page = await asks.request(ListPlacements(after=after), timeout=LIST_TIMEOUT_SECONDS)
        for item in page.items:
            yield item
        if page.is_last:
            return
        after = page.items[-1].id


async def _walk(asks: Asks, query: Callable[[Paging], Query[Page[Item]]], page_size: int) -> AsyncIterator[Item]:
    cursor: str | None = None
    while True:
        page = await asks.request(query(Paging(limit=page_size, cursor=cursor)), timeout=LIST_TIMEOUT_SECONDS)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return
