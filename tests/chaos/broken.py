"""Starts a real service with one of its safeguards broken, to show that the oracle would see it:

    PYTHONPATH=tests python -m chaos.broken outbox openqrm.inventory

Nothing of this is part of the product: the services themselves have no switch for it.
"""

import asyncio
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any


def break_outbox() -> None:
    """What is to be told is kept in memory, not in the transaction: it dies with the process."""
    from openqrm.inventory import transaction
    from openqrm.persistence.outbox import OutboxRelay, Outgoing, outbox_values

    kept: list[Outgoing] = []

    def write_nothing(messages: Sequence[Outgoing]) -> dict[str, Any]:
        kept.extend(messages)
        return outbox_values([])

    async def publish(relay: Any) -> None:
        while True:
            await relay._clock.sleep(0.01)
            try:
                while kept:
                    await relay._publisher.publish_kept(kept[0].subject, kept[0].headers, kept[0].body)
                    kept.pop(0)
            except Exception as error:  # noqa: BLE001 - it is broken, but not dead
                print(f"broken outbox: {error}", file=sys.stderr)

    def start(relay: Any) -> None:
        relay._task = asyncio.create_task(publish(relay))

    transaction.outbox_values = write_nothing
    OutboxRelay.start = start  # type: ignore[method-assign]


def break_inbox() -> None:
    """Nobody remembers what was handled: neither reports by their id, nor commands by their operation's."""
    from openqrm.contracts.ids import new_id
    from openqrm.inventory import app
    from openqrm.inventory.transaction import Transaction

    handlers_of = app.command_handlers

    def forgetful(handler: Any) -> Any:
        async def handle(command: Any, delivery: Any) -> None:
            if delivery.deliveries > 1:
                command = command.model_copy(update={"operation_id": new_id()})
            await handler(command, delivery)

        return handle

    Transaction.note_handled = lambda _transaction, _message_id: None  # type: ignore[method-assign]
    app.command_handlers = lambda inventory: {  # type: ignore[assignment]
        model: forgetful(handler) for model, handler in handlers_of(inventory).items()
    }


def break_epoch() -> None:
    """An executor carries out whatever comes, however old it is."""
    from openqrm.driver.executor.epochs import EpochGuard

    async def check(_guard: Any, *_arguments: Any) -> None:
        pass

    EpochGuard.check = check  # type: ignore[method-assign]


BREAK: dict[str, Callable[[], None]] = {"outbox": break_outbox, "inbox": break_inbox, "epoch": break_epoch}


def main() -> None:
    """Break what the first argument names, then be the module that the second one names."""
    what, module = sys.argv[1:3]
    BREAK[what]()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
