"""The least that catching up can cost: bare nats-py and asyncpg, on the same NATS and PostgreSQL, the same messages.

Told: rows are read, published by atomic batches, deleted. Heard: messages are pulled and acknowledged one by one, and
one UPDATE is made for each partition that they are about.
"""

import json
from time import perf_counter
from typing import Any
from uuid import uuid4

import asyncpg
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

BATCH = 500
CONSUMER = "bench-floor"
_FILL = """
CREATE TABLE public.floor_outbox AS
SELECT i AS id, m.id AS message_id, e.subject, e.headers::text AS headers, e.body
FROM (SELECT i, gen_random_uuid()::text AS id FROM generate_series(1, $1::int) AS i) AS m
CROSS JOIN (SELECT subject, headers, body FROM inventory.events WHERE subject = 'partition.started'
    ORDER BY sequence DESC LIMIT 1) AS e
"""
_KEY = "ALTER TABLE public.floor_outbox ADD PRIMARY KEY (id)"
_LIST = "SELECT id, message_id, subject, headers, body FROM public.floor_outbox ORDER BY id LIMIT $1"
_DELETE = "DELETE FROM public.floor_outbox WHERE id = ANY($1::int[])"


async def tell(nats_login: dict[str, str], database: dict[str, str], count: int) -> dict[str, Any]:
    """Seconds to publish so many events of inventory's from a table."""
    bus = await nats.connect(**nats_login)
    connection = await asyncpg.connect(**database)
    await connection.execute("DROP TABLE IF EXISTS public.floor_outbox")
    await connection.execute(_FILL.replace("$1::int", str(int(count))))
    await connection.execute(_KEY)
    began = perf_counter()
    while rows := await connection.fetch(_LIST, BATCH):
        batch = uuid4().hex
        for place, row in enumerate(rows, 1):
            headers = json.loads(row["headers"]) | {"Nats-Msg-Id": row["message_id"], "ce-id": row["message_id"]}
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place < len(rows):
                await bus.publish(row["subject"], row["body"], headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        reply = json.loads((await bus.request(row["subject"], row["body"], timeout=5, headers=headers)).data)
        if "error" in reply:
            raise RuntimeError(f"a batch was refused: {reply}")
        await connection.execute(_DELETE, [row["id"] for row in rows])
    seconds = perf_counter() - began
    await connection.execute("DROP TABLE public.floor_outbox")
    await connection.close()
    await bus.close()
    return {"seconds": seconds}


async def hear(
    nats_login: dict[str, str], database: dict[str, str], stream: str, subject: str, after: int, count: int,
    partitions: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Seconds to pull and acknowledge the messages of a subject after a sequence, and for an UPDATE per partition."""
    bus = await nats.connect(**nats_login)
    connection = await asyncpg.connect(**database)
    js = bus.jetstream()
    await js.add_consumer(
        stream,
        ConsumerConfig(
            durable_name=CONSUMER, filter_subject=subject, deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1, max_ack_pending=100_000,
        ),
    )  # fmt: skip
    try:
        pull = await js.pull_subscribe_bind(CONSUMER, stream)
        began = perf_counter()
        taken = 0
        while taken < count:
            for message in await pull.fetch(min(BATCH, count - taken), timeout=5):
                await message.ack()
                taken += 1
        for partition in partitions:
            await connection.execute("UPDATE inventory.partitions SET seen_at = seen_at WHERE id = $1", partition)
        await bus.flush()
        return {"seconds": perf_counter() - began}
    finally:
        await js.delete_consumer(stream, CONSUMER)
        await connection.close()
        await bus.close()
