"""The AsyncAPI document: every message on the bus, from the registry of contracts."""

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from openqrm.bus.streams import stream_of
from openqrm.contracts.message import Query, all_messages, subject_pattern


def asyncapi_document() -> dict[str, Any]:
    """AsyncAPI 3.0."""
    messages = all_messages()
    answers = {subject: model.result_type() for subject, model in messages.items() if issubclass(model, Query)}
    models = [(model, "serialization") for model in [*messages.values(), *answers.values()]]
    references, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for subject, model in messages.items():
        name = model.__name__
        channels[name] = {
            "address": subject,
            "description": model.__doc__,
            "messages": {
                name: {
                    "name": subject.split(".{")[0],
                    "contentType": "application/json",
                    "payload": references[(model, "serialization")],
                    "x-version": model.schema_version,
                }
            },
            "x-kind": model.message_kind.value,
            "x-stream": stream_of(model),
            "x-pattern": subject_pattern(model),
            "x-publishers": sorted(model.publishers),
            "x-consumers": sorted(model.consumers),
        }
        operations[f"send{name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{name}"}}
        if subject in answers:
            answer = answers[subject]
            channels[f"{name}Answer"] = {
                "address": None,
                "messages": {
                    "answer": {
                        "contentType": "application/json",
                        "payload": references[(answer, "serialization")],
                    }
                },
            }
            operations[f"send{name}"]["reply"] = {"channel": {"$ref": f"#/channels/{name}Answer"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "openQRM bus",
            "version": version("openqrm-gateway"),
            "description": "CloudEvents 1.0 in NATS binary mode; commands and events are kept by JetStream.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": definitions.get("$defs", {})},
    }
