"""Commands on networks."""

from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update

from openqrm.contracts.errors import ConflictError, PermanentError, ProblemCode
from openqrm.contracts.ids import new_id
from openqrm.contracts.network import (
    ChangeNetwork,
    CreateNetwork,
    DeleteNetwork,
    NetworkChanged,
    NetworkCreated,
    NetworkDeleted,
    NetworkView,
)
from openqrm.contracts.operation import TargetKind
from openqrm.contracts.states import PartitionState
from openqrm.inventory import engine
from openqrm.inventory.adapters.tables import networks, partitions, resources
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.handlers.resolving import find_network
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.inventory.views.network import row_to_view


async def create_network(inventory: Inventory, command: CreateNetwork) -> None:
    """Make a network known."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        view = NetworkView(
            id=command.network_id or new_id(),
            revision=1,
            name=command.name,
            description=command.description,
            bridge=command.bridge,
            host_bridges=command.host_bridges,
            vlan=command.vlan,
            created_at=tx.now,
        )
        operation.target_id = view.id
        values = view.model_dump() | {"host_bridges": _as_json(view.host_bridges)}
        await tx.execute(insert(networks).values(**values))
        tx.send(NetworkCreated(network=view, operation_id=operation.id), view.id)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.NETWORK, command.name, use_case)


async def change_network(inventory: Inventory, command: ChangeNetwork) -> None:
    """Change a network; NICs that are mapped already take a new bridge at their next start."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        view = await _lock(tx, operation, command.network, command.expected_revision)
        wishes = command.model_dump(include={"name", "description", "bridge", "host_bridges"}, exclude_none=True)
        changed = view.model_copy(update={**wishes, "revision": view.revision + 1})
        await tx.execute(
            update(networks)
            .where(networks.c.id == view.id)
            .values(
                revision=changed.revision,
                name=changed.name,
                description=changed.description,
                bridge=changed.bridge,
                host_bridges=_as_json(changed.host_bridges),
            )
        )
        tx.send(NetworkChanged(network=changed, operation_id=operation.id), view.id)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.NETWORK, command.network, use_case)


async def delete_network(inventory: Inventory, command: DeleteNetwork) -> None:
    """Forget a network that no NIC is mapped to."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        view = await _lock(tx, operation, command.network, command.expected_revision)
        users = await tx.execute(
            select(func.count(), func.min(resources.c.name))
            .select_from(partitions.join(resources, resources.c.id == partitions.c.id))
            .where(
                partitions.c.nics.contains([{"network_id": str(view.id)}]),
                resources.c.state != PartitionState.DELETED.value,
            )
        )
        row: Any = users.one()
        count, example = row[0], row[1]
        if coming := await tx.operations.that_will_use(view.id):
            raise ConflictError(
                f"The network {view.name!r} is about to be used by {coming!r}. Wait for the end of that operation."
            )
        if count:
            raise ConflictError(
                f"The network {view.name!r} is used by {count} partitions, for example {example!r}. "
                "Map their NICs to another network first.",
                details={"partitions": count},
            )
        await tx.execute(delete(networks).where(networks.c.id == view.id))
        tx.send(NetworkDeleted(network=view, operation_id=operation.id), view.id)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.NETWORK, command.network, use_case)


async def _lock(tx: Transaction, operation: Operation, ref: str, expected_revision: int | None) -> NetworkView:
    network = await find_network(tx, ref)
    row = (await tx.execute(select(networks).where(networks.c.id == network.id).with_for_update())).one()
    operation.target_id, operation.target_name = row.id, row.name
    if expected_revision is not None and expected_revision != row.revision:
        raise PermanentError(
            f"The network {row.name!r} has changed: it is at revision {row.revision}, not {expected_revision}. "
            "Look at it again and repeat the request.",
            code=ProblemCode.PRECONDITION,
        )
    return row_to_view(row)


def _as_json(bridges: dict[UUID, str]) -> dict[str, str]:
    return {str(host): bridge for host, bridge in bridges.items()}
