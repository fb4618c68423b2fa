"""Answers about operations."""

from openqrm.contracts.errors import NotFoundError
from openqrm.contracts.operation import GetOperation, ListOperations, OperationView
from openqrm.contracts.paging import Page
from openqrm.inventory.adapters.operations import read_operation, row_to_operation, select_operations
from openqrm.inventory.adapters.tables import operations
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views.paging import page_of, read_page


async def get_operation(inventory: Inventory, query: GetOperation) -> OperationView:
    """One by id."""
    async with inventory.reading.transaction() as connection:
        operation = await read_operation(connection, query.operation_id)
    if operation is None:
        raise NotFoundError(
            f"There is no operation {query.operation_id}. If it was asked for a moment ago, it may not be taken yet."
        )
    return operation.view()


async def list_operations(inventory: Inventory, query: ListOperations) -> Page[OperationView]:
    """A page of those that pass every filter, by time."""
    statement = select_operations()
    if query.state is not None:
        statement = statement.where(operations.c.state == query.state.value)
    if query.verb is not None:
        statement = statement.where(operations.c.verb == query.verb)
    if query.target_id is not None:
        statement = statement.where(operations.c.target_id == query.target_id)
    async with inventory.reading.transaction() as connection:
        read = await read_page(connection, statement, operations.c.created_at, operations.c.id, query.paging)
    items, cursor = page_of(read, (row_to_operation(row).view() for row in read.mappings))
    return Page[OperationView](items=items, next_cursor=cursor)
