"""Commands on operations."""

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.operation import CancelOperation, TargetKind
from openqrm.inventory import engine
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.flows.partitions import not_placed
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction


async def cancel_operation(inventory: Inventory, command: CancelOperation) -> None:
    """End an operation before its time, where its verb allows that."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        target = await tx.operations.lock(command.target_operation_id)
        if target is None:
            raise NotFoundError(
                f"There is no operation {command.target_operation_id}. List the operations to see which there are."
            )
        operation.target_id = target.id
        await engine.request_cancel(tx, target, lambda tx, op, error: not_placed(inventory, tx, op, error))
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.OPERATION, str(command.target_operation_id), use_case)
