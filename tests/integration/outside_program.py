"""A program of somebody else: it has a NATS client and the AsyncAPI document, and nothing of openQRM.

outside_program.py ASYNCAPI URL USER PASSWORD PARTITION: starts the partition, prints the events that follow.
"""

import asyncio
import json
import sys
import uuid

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy


async def main(document: str, url: str, user: str, password: str, partition: str) -> None:
    with open(document, encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - a small program
        channels = {channel["address"] for channel in json.load(file)["channels"].values()}
    assert {"partition.start", "operation.succeeded", "partition.started"} <= channels
    connection = await nats.connect(url, user=user, password=password, inbox_prefix=f"_INBOX_{user}")
    stream = connection.jetstream()
    events = await stream.pull_subscribe(
        "",
        stream="EVENTS",
        config=ConsumerConfig(
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.NONE,
            filter_subjects=["operation.*", "partition.*"],
        ),
    )
    operation = str(uuid.uuid4())
    body = {"operation_id": operation, "partition": partition}
    headers = {"Nats-Msg-Id": operation, "content-type": "application/json"}
    await stream.publish("partition.start", json.dumps(body).encode(), headers=headers)
    ended = started = False
    while not (ended and started):
        for message in await events.fetch(1, timeout=20):
            event = json.loads(message.data)
            if operation not in (event.get("operation", {}).get("id"), event.get("operation_id")):
                continue
            print(message.subject, flush=True)
            ended = ended or message.subject in ("operation.succeeded", "operation.failed", "operation.rejected")
            started = started or message.subject == "partition.started"
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
