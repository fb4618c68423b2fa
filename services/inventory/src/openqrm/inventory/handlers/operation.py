"""Commands on operations."""

from openqrm.contracts.errors import CancelledError, NotFoundError
from openqrm.contracts.operation import CancelOperation, TargetKind
from openqrm.inventory import engine
from openqrm.inventory.domain.operation import Operation, Phase
from openqrm.inventory.flows import evacuation
from openqrm.inventory.flows.partitions import call_off
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def cancel_operation(inventory: Inventory, command: CancelOperation) -> None:
    """End an operation before its time, where its verb allows that."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        known = await tx.operations.target_of(command.target_operation_id)
        if known is None:
            raise NotFoundError(
                f"There is no operation {command.target_operation_id}. List the operations to see which there are."
            )
        operation.target_id = command.target_operation_id
        kind, thing_id = known
        host = await tx.hosts.lock(thing_id) if thing_id and kind is TargetKind.HOST else None
        partition = await tx.partitions.lock(thing_id) if thing_id and kind is TargetKind.PARTITION else None
        target = await tx.operations.lock(command.target_operation_id)
        if target is None:
            raise NotFoundError(f"There is no operation {command.target_operation_id} any more.")
        operation.target_name = f"{target.verb} {target.target_name}"
        engine.check_cancellable(target)
        if target.phase is Phase.CHILDREN and host is not None:
            await evacuation.cancel(tx, target, host)
        elif target.phase in (Phase.TURN, Phase.PLACEMENT):
            error = CancelledError("It was cancelled before it was carried out.")
            await call_off(inventory, tx, target, partition, error)
        else:
            await engine.cancel_execution(tx, target)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.OPERATION, str(command.target_operation_id), use_case)
