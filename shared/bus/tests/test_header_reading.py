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


@pytest.mark.parametrize(
    "block",
    [
        b"ce-id: 7\r\nce-type: a.b\r\n",
        b"a: b: c\r\n",
        b"a: 1\r\na: 2\r\n",
        b"a:b\r\n",
        b"a:  b \r\n",
        b"a: \r\n",
        b"a b: c\r\nd: e\r\n",
        b"a: \xc3\xa4\r\n",
        b"a: b\nc: d\r\n",
        b"no colon\r\na: b\r\n",
    ],
)
async def test_plain_headers_are_read_as_the_library_does(block):
    ours, theirs = Client(), Client()
    survive_any_headers(ours)
    headers = b"NATS/1.0\r\n" + block + b"\r\n"
    assert await ours._process_headers(headers) == await theirs._process_headers(headers)
