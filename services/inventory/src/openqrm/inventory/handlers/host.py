"""Reports about hosts from the HA monitor."""

from openqrm.bus.delivery import Delivery
from openqrm.contracts.host import HostChanged, HostFailed
from openqrm.contracts.states import HostState
from openqrm.inventory.inventory import Inventory


async def host_failed(inventory: Inventory, event: HostFailed, _delivery: Delivery) -> None:
    """A host is proven dead: note it, and drop the routed commands that wait for it."""
    async with inventory.transaction() as tx:
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state in (HostState.FAILED, HostState.REMOVED):
            return
        host.state, host.state_reason = HostState.FAILED, event.proof
        tx.tell_host(HostChanged, host, reason=event.proof)
        await tx.hosts.save(host, tx.now)
        technology = host.technology
    await inventory.purge(technology, event.host_id)
