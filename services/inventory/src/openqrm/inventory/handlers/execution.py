"""Reports from executors about routed commands."""

from openqrm.bus.delivery import Delivery
from openqrm.contracts.execution import ExecutionFailed, ExecutionProgressed, ExecutionSucceeded
from openqrm.inventory import engine
from openqrm.inventory.domain.moments import seen_at
from openqrm.inventory.flows import outcomes
from openqrm.inventory.inventory import Inventory


async def execution_succeeded(inventory: Inventory, report: ExecutionSucceeded, delivery: Delivery) -> None:
    """An executor carried a command out."""
    at = seen_at(report.ended_at, delivery.sent_at, delivery.published_at)
    await outcomes.take_in(inventory, report.model_copy(update={"ended_at": at}), delivery.message_id)


async def execution_failed(inventory: Inventory, report: ExecutionFailed, delivery: Delivery) -> None:
    """An executor could not carry a command out."""
    at = seen_at(report.ended_at, delivery.sent_at, delivery.published_at)
    await outcomes.take_in(inventory, report.model_copy(update={"ended_at": at}), delivery.message_id)


async def execution_progressed(inventory: Inventory, report: ExecutionProgressed) -> None:
    """An executor came further with a long command."""
    await engine.progress(inventory, report.operation_id, report.progress, report.step)
