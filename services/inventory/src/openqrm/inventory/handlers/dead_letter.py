"""Dead letters: kept until an operator replays or discards them."""

from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from openqrm.bus.delivery import Delivery
from openqrm.bus.streams import STREAM_OF_KIND
from openqrm.contracts.dead_letter import DeadLetter, DiscardMessage, MessageDeadLettered, ReplayMessage
from openqrm.contracts.errors import InvalidError, NotFoundError
from openqrm.contracts.message import RoutedCommand, message_for
from openqrm.contracts.operation import TargetKind
from openqrm.inventory import engine
from openqrm.inventory.adapters.tables import dead_letters
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.flows import undelivered
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.persistence.outbox import Outgoing


async def message_dead_lettered(inventory: Inventory, event: MessageDeadLettered, _delivery: Delivery) -> None:
    """Keep a message that was given up. A routed command's operation ends: nobody else will report on it."""
    letter = event.letter
    async with inventory.transaction() as tx:
        await tx.execute(
            insert(dead_letters)
            .values(id=letter.id, letter=letter.model_dump(mode="json"), created_at=letter.occurred_at)
            .on_conflict_do_nothing()
        )
    model = message_for(letter.subject)
    if model is None or not issubclass(model, RoutedCommand):
        return
    try:
        routed = RoutedCommand.model_validate_json(letter.body)
    except ValidationError:
        return  # not one of ours: we write what we can read
    await undelivered.fail(inventory, routed.operation_id, routed.technology, letter.error)


async def replay_message(inventory: Inventory, command: ReplayMessage) -> None:
    """Publish a dead letter again, unchanged but for the id by which the server would drop it as a repetition."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        letter = await _take(tx, operation, command.letter_id)
        model = message_for(letter.subject)
        if model is None or model.message_kind not in STREAM_OF_KIND or not letter.body:
            raise InvalidError(
                f"The dead letter on {letter.subject} cannot be replayed: no stream takes it, or its body was left "
                "out. Discard it."
            )
        headers = letter.headers | {"Nats-Msg-Id": f"replay-{command.operation_id}"}
        tx.outgoing.append(
            Outgoing(key=str(letter.id), subject=letter.subject, headers=headers, body=letter.body, history=False)
        )
        engine.succeed_at_once(tx, operation, {"subject": letter.subject})

    await engine.submit(inventory, command, TargetKind.MESSAGE, str(command.letter_id), use_case)


async def discard_message(inventory: Inventory, command: DiscardMessage) -> None:
    """Drop a dead letter for good."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        letter = await _take(tx, operation, command.letter_id)
        engine.succeed_at_once(tx, operation, {"subject": letter.subject})

    await engine.submit(inventory, command, TargetKind.MESSAGE, str(command.letter_id), use_case)


async def _take(tx: Transaction, operation: Operation, letter_id: UUID) -> DeadLetter:
    statement = delete(dead_letters).where(dead_letters.c.id == letter_id).returning(dead_letters.c.letter)
    row = (await tx.execute(statement)).scalar_one_or_none()
    if row is None:
        raise NotFoundError(f"There is no dead letter {letter_id}. It may have been replayed or discarded already.")
    operation.target_id = letter_id
    return DeadLetter.model_validate(row)
