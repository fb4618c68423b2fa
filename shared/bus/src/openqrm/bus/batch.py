"""Atomic batches: messages that a stream takes all or none, and waits for its disk once.

The protocol is ADR-50 of NATS (https://github.com/nats-io/nats-architecture-and-design), for servers from 2.12 on:
each message names the batch and its place in it, and the last one commits it and is answered.
"""

import json
from collections.abc import Sequence
from uuid import uuid4

from nats.aio.client import Client

FEWEST = 16
"""With fewer a batch takes longer than one by one: the server keeps it aside first. Measured with nats-server 2.15."""
MAX_BATCH = 1000
"""What the server takes in one batch."""
BATCH_MARGIN = 256
"""Bytes that the batch's own headers add to a message."""


_DUPLICATE = 10201
"""The server's code for a batch with a message that was published before."""


class NoBatchesError(Exception):
    """The server, or the stream, takes no batches."""


async def publish_batch(
    client: Client, messages: Sequence[tuple[str, dict[str, str], bytes]], timeout: float
) -> int | None:
    """Publish messages (subject, headers, body) as one batch; the sequence of the last one, the others lie before it.

    None when one was published before; then nothing was stored. Raises NoBatchesError, and an old server has stored
    each by itself, so that they have to be published again to hear their sequences; nats.errors.Error when the server
    does not answer within `timeout` seconds.
    """
    if len(messages) > MAX_BATCH:
        raise NoBatchesError
    batch = uuid4().hex
    *first, last = enumerate(messages, 1)
    for place, (subject, headers, body) in first:
        await client.publish(subject, body, headers=headers | _place(batch, place))
    place, (subject, headers, body) = last
    commit = headers | _place(batch, place) | {"Nats-Batch-Commit": "1"}
    reply = json.loads((await client.request(subject, body, timeout=timeout, headers=commit)).data)
    if reply.get("error", {}).get("err_code") == _DUPLICATE:
        return None
    if "error" in reply or reply.get("batch") != batch:
        raise NoBatchesError
    return int(reply["seq"])


def _place(batch: str, place: int) -> dict[str, str]:
    return {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
