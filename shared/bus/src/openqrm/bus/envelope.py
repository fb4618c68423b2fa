"""CloudEvents 1.0 in NATS binary mode: attributes as headers, the model as JSON body.

Header names: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from openqrm.contracts.ids import new_id
from openqrm.contracts.message import Command, Message, RoutedCommand, message_for
from openqrm.telemetry.tracing import inject

ERROR_HEADER = "openqrm-error"
"""Present on a reply whose body is a Problem."""


def message_id(message: Message) -> str:
    """The id under which a message is recognised when it comes twice: a command's is its operation's."""
    if isinstance(message, Command):
        return str(message.operation_id)
    if isinstance(message, RoutedCommand):
        return f"{message.operation_id}.{message.subject.split('.')[1]}"
    return str(new_id())


def make_headers(message: Message, source: str, now: datetime, about: UUID | str | None = None) -> dict[str, str]:
    """The headers of a message that is published now, with the current trace context."""
    identity = message_id(message)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-type": message.subject.split(".{")[0],
        "ce-source": f"/openqrm/{source}",
        "ce-time": now.isoformat(),
        "ce-schemaversion": str(message.schema_version),
        "content-type": "application/json",
        "Nats-Msg-Id": identity,
    }
    if about is not None:
        headers["ce-subject"] = str(about)
    return inject(headers)


def time_of(headers: Mapping[str, str]) -> datetime | None:
    """When a message was sent, by its sender's clock; None when it does not say so, or nothing that can be read."""
    try:
        moment = datetime.fromisoformat(headers["ce-time"])
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo else None


def wire_size(headers: Mapping[str, str], body: bytes) -> int:
    """Bytes of a message as the server counts them: `NATS/1.0`, a line per header, an empty line, the body."""
    return len(body) + 12 + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())


def kind_of(subject: str) -> str:
    """For spans and metrics. Not the header ce-type: each value that anybody thinks of would be counted for ever."""
    model = message_for(subject)
    return model.subject.split(".{")[0] if model else "unknown"
