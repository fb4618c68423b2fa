"""What a message is: one frozen model per subject, registered once, when its class is made.

Streams, consumers, access rights, the AsyncAPI document and the JSON samples are all derived from this registry.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from openqrm.contracts.ids import Technology, new_id

Result = TypeVar("Result", bound=BaseModel)

INVENTORY = "inventory"
SCHEDULER = "scheduler"
GATEWAY = "gateway"
HA_MONITOR = "ha-monitor"
EXECUTOR = "executor"
CLIENT = "client"
"""Roles on the bus. EXECUTOR stands for each executor-<technology>, CLIENT for a program from outside."""


class Kind(StrEnum):
    """How a message is carried; see the table in docs/architecture.md."""

    COMMAND = "command"
    ROUTED_COMMAND = "routed-command"
    EVENT = "event"
    QUERY = "query"
    SAMPLE = "sample"
    FRAME = "frame"


class Message(BaseModel):
    """Base of everything that crosses the bus.

    Class arguments: `subject` (with `{technology}` and `{host}` or `{session}` where it is routed), `version` (raised
    when the schema changes), `publishers` and `consumers` (roles).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")

    subject: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    message_kind: ClassVar[Kind]
    publishers: ClassVar[frozenset[str]] = frozenset()
    consumers: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()  # the class arguments are for __pydantic_init_subclass__

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        subject: str | None = None,
        version: int = 1,
        publishers: tuple[str, ...] | None = None,
        consumers: tuple[str, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if publishers is not None:
            cls.publishers = frozenset(publishers)
        if consumers is not None:
            cls.consumers = frozenset(consumers)
        if subject is None:
            return
        if subject in _REGISTRY:
            raise TypeError(f"subject {subject} is registered twice: {_REGISTRY[subject].__name__}, {cls.__name__}")
        cls.subject = subject
        cls.schema_version = version
        _REGISTRY[subject] = cls


_REGISTRY: dict[str, type[Message]] = {}

_PLACEHOLDERS = {"{technology}": "technology", "{host}": "host_id", "{session}": "session_id", "{trace}": "trace_id"}


def address(message: Message) -> str:
    """The concrete subject of a message: its template with the message's own fields filled in."""
    subject = message.subject
    for placeholder, field in _PLACEHOLDERS.items():
        if placeholder in subject:
            subject = subject.replace(placeholder, str(getattr(message, field)))
    return subject


class Command(Message):
    """A wish, in the imperative. Sending the same `operation_id` twice gives one operation."""

    model_config = ConfigDict(extra="forbid")
    message_kind: ClassVar[Kind] = Kind.COMMAND
    publishers: ClassVar[frozenset[str]] = frozenset({GATEWAY, CLIENT, INVENTORY})
    consumers: ClassVar[frozenset[str]] = frozenset({INVENTORY})

    operation_id: UUID = Field(default_factory=new_id, description="Chosen by the caller, UUIDv7; makes it idempotent")
    requested_by: str = Field(default="", max_length=200, description="Who asked, for the audit")


class RoutedCommand(Message):
    """A command on its way to one host's executor; only inventory sends these."""

    message_kind: ClassVar[Kind] = Kind.ROUTED_COMMAND
    publishers: ClassVar[frozenset[str]] = frozenset({INVENTORY})
    consumers: ClassVar[frozenset[str]] = frozenset({EXECUTOR})

    operation_id: UUID
    host_id: UUID
    technology: Technology


class Event(Message):
    """A fact, in the past tense; immutable, in order, replayable."""

    message_kind: ClassVar[Kind] = Kind.EVENT
    publishers: ClassVar[frozenset[str]] = frozenset({INVENTORY})


class Query(Message, Generic[Result]):
    """A question; the answer is a `Result`, or a Problem as an error."""

    model_config = ConfigDict(extra="forbid")
    message_kind: ClassVar[Kind] = Kind.QUERY
    publishers: ClassVar[frozenset[str]] = frozenset({GATEWAY, SCHEDULER, EXECUTOR, HA_MONITOR, INVENTORY, CLIENT})
    consumers: ClassVar[frozenset[str]] = frozenset({INVENTORY})

    @classmethod
    def result_type(cls) -> type[BaseModel]:
        """The model of the answer."""
        for base in cls.__mro__:
            generic = getattr(base, "__pydantic_generic_metadata__", None)
            if generic and generic["origin"] is Query and generic["args"]:
                result: type[BaseModel] = generic["args"][0]
                return result
        raise TypeError(f"{cls.__name__} does not say what its answer is: derive it from Query[Answer]")


class Sample(Message):
    """A reading that is fine to lose: the next one comes soon."""

    message_kind: ClassVar[Kind] = Kind.SAMPLE


class Frame(Message):
    """A piece of a console session's byte stream; numbered, so that a loss is seen."""

    message_kind: ClassVar[Kind] = Kind.FRAME


def all_messages() -> dict[str, type[Message]]:
    """Every registered message by its subject (templates with placeholders)."""
    from openqrm.contracts import catalogue  # its modules import this one

    catalogue.load()
    return dict(sorted(_REGISTRY.items()))


def messages_of(*kinds: Kind) -> Iterator[type[Message]]:
    """The registered messages of the given kinds, by subject."""
    return (model for model in all_messages().values() if model.message_kind in kinds)


def subject_pattern(model: type[Message], technology: str = "*") -> str:
    """The NATS subject to subscribe to for every message of a model: `*` for each placeholder."""
    return re.sub(r"\{\w+\}", "*", model.subject.replace("{technology}", technology))


def message_for(subject: str) -> type[Message] | None:
    """The model of a concrete subject, such as partition.start.qemu.0198…; None if there is none."""
    return _by_shape().get(_shape(subject))


def _shape(subject: str) -> tuple[str, int]:
    """The noun and the verb, and how many tokens follow."""
    tokens = subject.split(".")
    return ".".join(tokens[:2]), len(tokens) - 2


@cache
def _by_shape() -> dict[tuple[str, int], type[Message]]:
    return {_shape(subject): model for subject, model in all_messages().items()}
