"""The AsyncAPI document: it says what the registry says, it is whole, and the committed copy is current."""

import re
import runpy
from pathlib import Path

import pytest

from openqrm.bus.asyncapi import channel_key, make_document
from openqrm.bus.streams import stream_of
from openqrm.contracts.message import Kind, all_messages, messages_of

SCRIPT = Path(__file__).with_name("make_asyncapi.py")
MAKER = runpy.run_path(str(SCRIPT))
DOCUMENT = make_document()
MODELS = list(all_messages().values())
QUERIES = list(messages_of(Kind.QUERY))


def nodes(value, path="#"):
    """Every object of the document with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, child in value.items():
            yield from nodes(child, f"{path}/{key}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from nodes(child, f"{path}/{number}")


def resolve(reference):
    """What a reference points to; KeyError when that is nothing."""
    target = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        target = target[step]
    return target


def test_the_committed_copy_is_current():
    assert MAKER["DOCUMENT"].read_text("utf-8") == MAKER["render"](), (
        f"Run .venv/bin/python {SCRIPT.relative_to(SCRIPT.parents[2])} and commit what it writes."
    )


def test_it_is_the_same_every_time():
    assert make_document() == DOCUMENT


def test_it_has_what_asyncapi_3_asks_for():
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"].keys() >= {"title", "version"}
    name = re.compile(r"[A-Za-z0-9_.-]+")
    for part in ("messages", "schemas", "messageTraits"):
        assert all(name.fullmatch(key) for key in DOCUMENT["components"][part])
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = resolve(operation["channel"]["$ref"])
        for message in operation["messages"]:
            assert resolve(message["$ref"]) in channel["messages"].values()
    for channel in DOCUMENT["channels"].values():
        placeholders = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert placeholders == set(channel.get("parameters", {}))


def test_channels_are_exactly_the_subjects():
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values() if channel["address"]]
    assert sorted(addresses) == sorted(all_messages())
    replies = {key for key, channel in DOCUMENT["channels"].items() if channel["address"] is None}
    assert replies == {f"{channel_key(query)}.reply" for query in QUERIES}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.subject)
def test_a_message_is_described(model):
    channel = DOCUMENT["channels"][channel_key(model)]
    message = resolve(channel["messages"][model.__name__]["$ref"])
    assert message["description"] == (model.__doc__ or "").strip()
    assert message["x-openqrm-kind"] == model.message_kind.value
    assert set(resolve(message["payload"]["$ref"])["properties"]) == set(model.model_fields)
    assert channel["x-openqrm-stream"] == (stream_of(model) or ("SPANS" if "{trace}" in model.subject else None))
    for example in message.get("examples", []):
        model.model_validate(example["payload"])
    for action, roles in (("send", model.publishers), ("receive", model.consumers)):
        operation = DOCUMENT["operations"].get(f"{action}.{channel_key(model)}")
        assert set(operation["x-openqrm-roles"] if operation else ()) == roles


@pytest.mark.parametrize("query", QUERIES, ids=lambda model: model.subject)
def test_a_query_has_its_answer(query):
    reply = resolve(DOCUMENT["operations"][f"send.{channel_key(query)}"]["reply"]["channel"]["$ref"])
    answer, problem = (resolve(message["$ref"]) for message in reply["messages"].values())
    assert set(resolve(answer["payload"]["$ref"])["properties"]) == set(query.result_type().model_fields)
    assert problem["headers"]["required"] == ["openqrm-error"]


def test_every_reference_resolves_and_every_schema_is_used():
    references = {node["$ref"] for _, node in nodes(DOCUMENT) if isinstance(node.get("$ref"), str)}
    for reference in references:
        resolve(reference)
    mapped = {ref for _, node in nodes(DOCUMENT) for ref in node.get("mapping", {}).values() if "mapping" in node}
    for reference in mapped:
        resolve(reference)
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} <= references


def test_it_tells_how_to_start_a_partition_in_a_few_lines():
    description = DOCUMENT["info"]["description"]
    assert description.count("\n") <= 40
    for word in ("COMMANDS", "EVENTS", "Nats-Msg-Id", "operation_id", "partition.start", "operation.succeeded"):
        assert word in description
    subjects = set(re.findall(r"`([a-z]+\.[a-z_]+)`", description))
    assert subjects <= set(all_messages()) | {"operation.error", "operation.id"}
