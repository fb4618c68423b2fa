"""Programs that have a NATS client and the AsyncAPI document, and nothing of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema_rs
import nats
import pytest
from installation import Client, Installation, Json
from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from openqrm.contracts.ids import new_id
from openqrm.testkit.waiting import eventually_async


@asynccontextmanager
async def connected(site: Installation, errors: list[str] | None = None) -> AsyncIterator[Nats]:
    """As any program of the machine's owner connects: with what client.json says."""
    word = site.word

    async def note(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error))

    client = await nats.connect(
        word["nats_url"],
        user=word["nats_user"],
        password=site.secret("nats_password_file"),
        inbox_prefix=f"_INBOX_{word['nats_user']}",
        error_cb=note,
    )
    try:
        yield client
    finally:
        await client.close()


def schema_of(document: Json, subject: str) -> Json:
    """The schema of a subject's payload, as the document has it."""
    channel = next(found for found in document["channels"].values() if found["address"] == subject)
    message = document["components"]["messages"][next(iter(channel["messages"]))]
    return {**message["payload"], "components": document["components"]}


def envelope(subject: str, body: Json) -> dict[str, Any]:
    """A command as the document says that it is sent."""
    headers = {"Nats-Msg-Id": str(new_id()), "content-type": "application/json"}
    return {"subject": subject, "payload": json.dumps(body).encode(), "headers": headers}


async def test_another_program_starts_a_partition_and_follows_its_events(
    admin: Client, site: Installation, name: str
) -> None:
    made = await admin.partition(name)
    document = await admin.get("/asyncapi")
    operation = str(new_id())
    wish = {"operation_id": operation, "partition": made["id"]}
    jsonschema_rs.validate(schema_of(document, "partition.start"), wish)
    async with connected(site) as client:
        js = client.jetstream()
        consumer = f"{site.word['nats_user']}-{operation}"
        await js.add_consumer(
            "EVENTS",
            ConsumerConfig(name=consumer, deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.NONE,
                           filter_subjects=["partition.>", "operation.>"], inactive_threshold=30),
        )  # fmt: skip
        events = await js.pull_subscribe_bind(consumer, "EVENTS")
        acknowledged = await js.publish(**envelope("partition.start", wish))
        assert acknowledged.stream == "COMMANDS"
        heard: list[str] = []
        while "operation.succeeded" not in heard or "partition.started" not in heard:
            for message in await events.fetch(1, timeout=20):
                body = json.loads(message.data)
                jsonschema_rs.validate(schema_of(document, message.subject), body)
                about = body.get("operation", {}).get("id") or body.get("operation_id")
                if about == operation:
                    heard.append(message.subject)
        reply = await client.request("partition.get", json.dumps({"partition": made["id"]}).encode(), timeout=5)
        assert json.loads(reply.data)["state"] == "running"
        refused = await client.request("partition.get", json.dumps({"partition": "none"}).encode(), timeout=5)
        assert json.loads(refused.data)["code"] == "not-found"
    assert heard[0] == "operation.accepted"
    assert (await admin.get(f"/operations/{operation}"))["state"] == "succeeded"


async def test_sent_twice_it_is_done_once(admin: Client, site: Installation, name: str) -> None:
    operation = str(new_id())
    body = {"operation_id": operation, "name": name, "memory_mib": 64}
    async with connected(site) as client:
        for _ in range(3):
            await client.jetstream().publish(**envelope("partition.create", body))

    async def is_done() -> bool:
        found = await admin.request("GET", f"/operations/{operation}")
        return found.status_code == 200 and found.json()["state"] == "succeeded"

    await eventually_async(is_done, 20, "it is made")
    assert len((await admin.get("/partitions", name=name))["items"]) == 1


async def letters(admin: Client, word: bytes) -> list[Json]:
    """The dead letters that contain a word."""
    from base64 import b64decode

    found = (await admin.get("/dead-letters", limit=500))["items"]
    return [letter for letter in found if word in b64decode(letter["body"] + "==", altchars=b"-_")]


async def test_messages_of_garbage(admin: Client, site: Installation) -> None:
    """Each becomes a dead letter that says what is wrong; the service lives and the queue goes on."""
    mark = str(new_id()).encode()
    garbage = [
        b"\x00\xff\xfe" + mark,
        b"{" + mark,
        b'"' + mark + b'"',
        b'{"partition": 7, "mark": "' + mark + b'"}',
        b'{"operation_id": "no id", "partition": "' + mark + b'"}',
        b"[" * 5000 + mark,
    ]
    async with connected(site) as client:
        for body in garbage:
            for headers in (None, {"ce-id": "\u00fc" * 10, "ce-type": "nonsense", "traceparent": "garbage"}):
                await client.jetstream().publish("partition.start", body, headers=headers)
        for body in garbage:  # a question of garbage gets a problem as its answer
            reply = await client.request("partition.get", body, timeout=5)
            assert json.loads(reply.data)["code"] == "invalid"

    async def all_told() -> bool:
        return len(await letters(admin, mark)) == 2 * len(garbage)

    await eventually_async(all_told, 30, "the dead letters")
    found = await letters(admin, mark)
    for letter in found:
        assert (letter["subject"], letter["consumer"]) == ("partition.start", "COMMANDS/inventory")
        assert len(letter["error"]["message"]) > 20
    events = await admin.get("/events", subject="message.dead_lettered", last=1000, limit=1000)
    assert {letter["id"] for letter in found} <= {event["data"]["letter"]["id"] for event in events["items"]}
    for letter in found[:-1]:
        await admin.run("POST", f"/dead-letters/{letter['id']}/discard")
    await admin.run("POST", f"/dead-letters/{found[-1]['id']}/replay")

    async def came_back() -> bool:
        left = await letters(admin, mark)
        return len(left) == 1 and left[0]["id"] != found[-1]["id"]

    await eventually_async(came_back, 30, "what is replayed unchanged dies again")
    await admin.refused("POST", f"/dead-letters/{found[-1]['id']}/replay", status=404)
    assert (await admin.request("GET", "/health")).json()["status"] == "ok"


async def test_a_client_cannot_do_what_is_not_its_own(admin: Client, site: Installation, name: str) -> None:
    made = await admin.partition(name)
    errors: list[str] = []
    async with connected(site, errors) as client:
        for subject in (
            "partition.start.fake.h1",
            "partition.started",
            "host.failed",
            "execution.succeeded",
            "$JS.API.STREAM.DELETE.EVENTS",
            "$JS.API.STREAM.PURGE.COMMANDS",
            "$JS.API.CONSUMER.DELETE.COMMANDS.inventory",
            "$JS.API.CONSUMER.CREATE.COMMANDS.mine",
            "anything.else",
        ):
            await client.publish(subject, b"{}")
        for subject in (">", "partition.start", "_INBOX.>", "_INBOX_gateway.>", "$JS.>"):
            await client.subscribe(subject)
        await client.flush()
        with pytest.raises((NatsError, TimeoutError)):
            await client.jetstream().stream_info("COMMANDS")
    assert sum("publish" in error.lower() for error in errors) >= 9
    assert sum("subscription" in error.lower() for error in errors) == 5
    assert (await admin.get(f"/partitions/{made['id']}"))["state"] == "stopped"


async def test_many_commands_at_once(admin: Client, site: Installation, name: str) -> None:
    names = [f"{name} {number:02}" for number in range(50)]
    async with connected(site) as client:
        js = client.jetstream()
        await asyncio.gather(
            *(js.publish(**envelope("partition.create", {"operation_id": str(new_id()), "name": one, "memory_mib": 16}))
              for one in names)
        )  # fmt: skip

    async def all_there() -> bool:
        found = await admin.get("/partitions", name=name, state="stopped", limit=100)
        return [item["name"] for item in found["items"]] == names

    await eventually_async(all_there, 30, "fifty partitions")
