"""The AsyncAPI 3.0 document of the whole bus, derived from the registry of messages.

With it and a NATS client a program in any language can use openQRM; see DESCRIPTION.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from openqrm.bus.envelope import ERROR_HEADER
from openqrm.bus.streams import DUPLICATE_WINDOW_SECONDS, SPANS, stream_of
from openqrm.contracts.errors import Problem
from openqrm.contracts.message import Command, Message, Query, all_messages
from openqrm.contracts.span import SpansRecorded

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"

DESCRIPTION = f"""\
openQRM speaks JSON over NATS with JetStream. A NATS client and this document are all that a program needs.

**Start a partition and follow what becomes of it**

0. Log in with your user name and set your client's inbox prefix to `_INBOX_<user name>`: no other inbox is yours.
1. Listen before you ask: make an ephemeral pull consumer on the stream EVENTS (deliver policy: new; ack policy: none;
   filter subjects: `operation.*` and `partition.*`) and fetch from it.
2. Choose an operation id: a UUIDv7, such as `019cec77-6600-7000-8000-000000000001`. Publish with JetStream, so that
   you get an acknowledgement from the stream COMMANDS:
   subject `partition.start`
   headers `Nats-Msg-Id: 019cec77-6600-7000-8000-000000000001` and `content-type: application/json`
   body `{{"operation_id": "019cec77-6600-7000-8000-000000000001", "partition": "web 1"}}`
   The acknowledgement says that the command is kept; nothing is started yet. No acknowledgement: publish it again,
   with the same operation id. However often it comes, it is one operation.
3. Read the events whose body has your id in `operation.id` (events `operation.*`) or in `operation_id` (others):
   first `operation.accepted` or `operation.rejected`; then `operation.progressed`, any number of times; at last one of
   `operation.succeeded`, `operation.failed`, `operation.cancelled`. `operation.error` is a Problem: a code for
   programs and a sentence for people. Meanwhile `partition.changed` and `partition.started` tell of the partition.
   A body that is not what its schema says becomes no operation but a `message.dead_lettered` event, which says why.
4. Lost the connection? Go on from the stream sequence after the last event you read, or ask: send a request to
   `operation.get` with body `{{"operation_id": "…"}}`.

**Kinds of messages** (`x-openqrm-kind` of each message)

- command: a wish. Stream COMMANDS. A command on a busy partition waits behind the operation that runs there.
- routed-command: what a command becomes for the executor of one host. Stream EXECUTIONS. Only inventory sends these.
- event: a fact. Stream EVENTS, in order, at least once. Each carries the whole thing that it is about, with a
  `revision` that only rises: of two views of one thing the one with the higher revision is newer.
- query: NATS request and reply, within 5 seconds. A reply with the header `{ERROR_HEADER}` has a Problem as its body;
  no responders means that the service which answers is not running.
- sample, frame: core NATS, not kept{" (spans: stream " + SPANS + ", for a day)"}; losing one does no harm.

**Headers** are CloudEvents 1.0 in NATS binary mode. Only `Nats-Msg-Id` matters when you publish: the server drops
what comes twice within {DUPLICATE_WINDOW_SECONDS:.0f} s, and inventory whatever comes twice later. With `traceparent`
(W3C) your own trace goes on through openQRM. In subjects `{{technology}}` is a word such as `qemu`, `{{host}}` a
host's id, `{{session}}` a console session's, `{{trace}}` a trace id. Fields that you do not know: ignore them.
"""

_PARAMETERS = {
    "technology": "The word for a technology, such as qemu",
    "host": "A host's id",
    "session": "The id of a console session",
    "trace": "A trace id: 32 hexadecimal digits",
}

_AFTERWARDS = (
    "Afterwards: operation.accepted or operation.rejected, then operation.progressed, at last operation.succeeded, "
    "operation.failed or operation.cancelled, all with this operation_id."
)


def make_document(version: str = "0.1.0") -> Json:
    """The document as JSON types; the same for the same contracts."""
    models = list(all_messages().values())
    queries = [model for model in models if issubclass(model, Query)]
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    references, schemas = _schemas(models, queries)
    for model in models:
        key = channel_key(model)
        messages[model.__name__] = _message(model, references[model, "validation"])
        channels[key] = _channel(model, [model.__name__])
        operations |= _operations(model)
    for query in queries:
        answer = f"{query.__name__}Answer"
        messages[answer] = _answer(query, references[query.result_type(), "serialization"])
        # The reply goes to an inbox that the asker names, so this channel has no address.
        channels[f"{channel_key(query)}.reply"] = {
            "address": None,
            "description": f"Where answers to {query.subject} go: the reply subject of the request.",
            "messages": {
                answer: {"$ref": f"#/components/messages/{answer}"},
                "Problem": {"$ref": "#/components/messages/Problem"},
            },
        }
    messages["Problem"] = {
        "title": "The answer to a query that failed",
        "contentType": "application/json",
        "headers": {"type": "object", "required": [ERROR_HEADER], "properties": {ERROR_HEADER: {"type": "string"}}},
        "payload": {"$ref": references[Problem, "serialization"]},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "openQRM", "version": version, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The NATS server of the installation; a user name and password, or a .creds file.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "messageTraits": {"cloudEvent": {"headers": _HEADERS}},
            "schemas": schemas,
        },
    }


def channel_key(model: type[Message]) -> str:
    """The name of a message's channel in the document: its subject without braces."""
    return model.subject.replace("{", "").replace("}", "")


_HEADERS: Json = {
    "type": "object",
    "properties": {
        "ce-specversion": {"type": "string", "const": "1.0"},
        "ce-id": {"type": "string", "description": "The same when the same message comes again"},
        "ce-type": {"type": "string", "description": "The subject without host or session", "examples": ["host.lost"]},
        "ce-source": {"type": "string", "examples": ["/openqrm/inventory"]},
        "ce-subject": {"type": "string", "description": "The id of the thing that it is about"},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-schemaversion": {"type": "string", "description": "The version of the payload's schema"},
        "content-type": {"type": "string", "const": "application/json"},
        "Nats-Msg-Id": {"type": "string", "description": "Under which the server recognises a message sent twice"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
    },
}


def _schemas(
    models: Iterable[type[Message]], queries: Iterable[type[Query[Any]]]
) -> tuple[dict[tuple[Any, str], str], Json]:
    """References by model and mode, and the schemas that they point to."""
    wanted: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in models]
    answers = {query.result_type(): None for query in queries} | {Problem: None}
    wanted += [(answer, "serialization") for answer in answers]
    keys, definitions = models_json_schema(wanted, ref_template=SCHEMAS + "{model}")
    schemas: Json = {}
    references: dict[tuple[Any, str], str] = {}
    renamed = {name: _tidy(name) for name in definitions.get("$defs", {})}
    for (model, mode), schema in keys.items():
        references[model, str(mode)] = _rename(schema, renamed)["$ref"]
    for name, schema in definitions.get("$defs", {}).items():
        schemas[renamed[name]] = _rename(schema, renamed)
    return references, dict(sorted(schemas.items()))


def _tidy(name: str) -> str:
    """A schema's name without the characters that generics bring and AsyncAPI forbids."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("_")


def _rename(schema: Any, renamed: dict[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: SCHEMAS + renamed[value.removeprefix(SCHEMAS)]
            if key == "$ref" and isinstance(value, str)
            else {kind: SCHEMAS + renamed[ref.removeprefix(SCHEMAS)] for kind, ref in value.items()}
            if key == "mapping"
            else _rename(value, renamed)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_rename(item, renamed) for item in schema]
    return schema


def _text(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip()


def _message(model: type[Message], reference: str) -> Json:
    message: Json = {
        "name": model.subject,
        "title": model.__name__,
        "description": _text(model),
        "x-openqrm-kind": model.message_kind.value,
        "x-openqrm-version": model.schema_version,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": reference},
    }
    example = _example(model)
    if example is not None:
        message["examples"] = [{"payload": example}]
    return message


def _answer(query: type[Query[Any]], reference: str) -> Json:
    return {
        "title": f"{query.__name__}Answer",
        "description": f"The answer to {query.subject}.",
        "payload": {"$ref": reference},
    }


def _channel(model: type[Message], messages: list[str]) -> Json:
    parameters = {name: {"description": text} for name, text in _PARAMETERS.items() if f"{{{name}}}" in model.subject}
    stream = SPANS if model is SpansRecorded else stream_of(model)
    channel: Json = {
        "address": model.subject,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "x-openqrm-stream": stream,
    }
    if parameters:
        channel["parameters"] = parameters
    if issubclass(model, Command):
        channel["description"] = f"Publish to stream {stream} with Nats-Msg-Id = operation_id. {_AFTERWARDS}"
    elif issubclass(model, Query):
        channel["description"] = "Request and reply; not kept by any stream."
    else:
        channel["description"] = f"Kept by stream {stream}." if stream else "Not kept by any stream."
    return channel


def _operations(model: type[Message]) -> Json:
    """Who sends and who receives. The document is about openQRM as a whole, so both sides are in it."""
    key = channel_key(model)
    operations: Json = {}
    for action, roles in (("send", model.publishers), ("receive", model.consumers)):
        if not roles:
            continue
        operation: Json = {
            "action": action,
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": _text(model).split("\n")[0],
            "description": f"By {', '.join(sorted(roles))}.",
            "messages": [{"$ref": f"#/channels/{key}/messages/{model.__name__}"}],
            "x-openqrm-roles": sorted(roles),
        }
        if issubclass(model, Query):
            operation["reply"] = {
                "address": {"location": "$message.header#/reply", "description": "The reply subject of the request"},
                "channel": {"$ref": f"#/channels/{key}.reply"},
            }
        operations[f"{action}.{key}"] = operation
    return operations


def _example(model: type[Message]) -> Json | None:
    """An example of the required fields, as far as the fields' own examples and types tell one."""
    example: Json = {}
    for name, field in model.model_fields.items():
        if field.examples:
            example[name] = field.examples[0]
        elif name == "operation_id" and issubclass(model, Command):
            example[name] = "019cec77-6600-7000-8000-000000000001"
        elif field.is_required():
            return None
    return example or None
