"""Headers that no client library would send."""

import pytest
from nats.aio.client import Client

from openqrm.bus.header_reading import survive_any_headers

UNREADABLE = (b"xx", b"NATS/1.0", b"NATS/1.0 \xff\xfe\xfd\r\n\r\n", b"NATS/1.0 503 \xff\r\n\r\n")


@pytest.mark.parametrize("headers", UNREADABLE)
async def test_headers_that_cannot_be_read_are_left_out(headers):
    client = Client()
    survive_any_headers(client)
    assert not await client._process_headers(headers)


async def test_other_headers_are_read():
    client = Client()
    survive_any_headers(client)
    assert await client._process_headers(b"NATS/1.0\r\nce-id: 7\r\n\r\n") == {"ce-id": "7"}
    assert await client._process_headers(None) is None
