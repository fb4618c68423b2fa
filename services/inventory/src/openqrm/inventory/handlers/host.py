"""Reports about hosts from the HA monitor."""

from openqrm.bus.delivery import Delivery
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.host import HostChanged, HostFailed
from openqrm.contracts.states import HostState
from openqrm.inventory.flows import hosts, undelivered
from openqrm.inventory.inventory import Inventory


async def host_failed(inventory: Inventory, event: HostFailed, _delivery: Delivery) -> None:
    """A host is proven dead: note it, drop the routed commands that wait for it, and end their operations."""
    async with inventory.transaction() as tx:
        host = await tx.hosts.lock(event.host_id)
        if host is None or host.state is HostState.REMOVED:
            return
        if host.state is not HostState.FAILED:
            host.state, host.state_reason = HostState.FAILED, event.proof
            tx.tell_host(HostChanged, host, reason=event.proof)
            await tx.hosts.save(host, tx.now)
            await hosts.doubt_partitions(tx, host)
        waiting = await tx.operations.routed_to(host.id)
    # Also when this comes for the second time: the first one may not have come this far.
    await inventory.purge(host.technology, host.id)
    error = Problem(
        code=ProblemCode.HOST_FAILED,
        message=f"The host {host.name!r} failed before it was carried out, or while it was: {event.proof.rstrip('.')}.",
    )
    for operation in waiting:
        await undelivered.fail(inventory, operation.id, host.technology, error)
