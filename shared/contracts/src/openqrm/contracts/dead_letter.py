"""Dead letters: messages that could not be handled. An operator sees each and can replay or discard it."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from openqrm.contracts.errors import Problem
from openqrm.contracts.message import (
    EXECUTOR,
    GATEWAY,
    HA_MONITOR,
    INVENTORY,
    SCHEDULER,
    Command,
    Event,
    Query,
)
from openqrm.contracts.paging import Page, Paging


class DeadLetter(BaseModel):
    """One message that was given up."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    id: UUID
    subject: str
    headers: dict[str, str]
    body: bytes
    consumer: str = Field(description="The durable consumer that gave it up")
    deliveries: int
    error: Problem
    occurred_at: AwareDatetime


class MessageDeadLettered(
    Event,
    subject="message.dead_lettered",
    publishers=(INVENTORY, SCHEDULER, EXECUTOR, GATEWAY, HA_MONITOR),
    consumers=(INVENTORY,),
):
    """A message was garbage, or failed too often, and was taken out of its queue."""

    letter: DeadLetter


class ReplayMessage(Command, subject="message.replay"):
    """Publish a dead letter again, unchanged, on its own subject."""

    letter_id: UUID


class DiscardMessage(Command, subject="message.discard"):
    """Drop a dead letter for good."""

    letter_id: UUID


class ListDeadLetters(Query[Page[DeadLetter]], subject="message.list_dead_letters"):
    """Dead letters that were neither replayed nor discarded, the newest first."""

    paging: Paging = Paging(descending=True)
