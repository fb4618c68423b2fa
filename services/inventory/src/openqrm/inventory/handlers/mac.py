"""MAC addresses asked for and given back by others."""

from openqrm.contracts.errors import ConflictError, NotFoundError, TemporaryError
from openqrm.contracts.mac import AllocateMac, MacAllocation, MacRelease, ReleaseMac
from openqrm.inventory.inventory import Inventory


async def allocate_mac(inventory: Inventory, query: AllocateMac) -> MacAllocation:
    """Take a free address."""
    try:
        return await _allocate(inventory, query)
    except TemporaryError:
        # The same request at the same time: by now it has been answered, and what it got is found.
        return await _allocate(inventory, query)


async def _allocate(inventory: Inventory, query: AllocateMac) -> MacAllocation:
    async with inventory.transaction() as tx:
        mac = await tx.macs.allocate(
            query.technology, request_id=query.request_id, wished=query.mac, note=query.note or "by request"
        )
    return MacAllocation(mac=mac, technology=query.technology)


async def release_mac(inventory: Inventory, query: ReleaseMac) -> MacRelease:
    """Give one back that no partition of ours has."""
    async with inventory.transaction() as tx:
        holder = await tx.macs.holder(query.mac)
        if holder is not None:
            raise ConflictError(
                f"The MAC address {query.mac} belongs to the partition {holder}. Detach its NIC instead.",
                details={"partition_id": str(holder)},
            )
        free_after = await tx.macs.release(query.mac, inventory.settings.mac_quarantine_seconds)
        if free_after is None:
            raise NotFoundError(f"The MAC address {query.mac} is not allocated, so it cannot be released.")
    return MacRelease(mac=query.mac, free_after=free_after)
