"""Header blocks of NATS messages: as they should be, and as nobody should send them."""

from dataclasses import dataclass

LINE = b"NATS/1.0\r\n"


@dataclass(frozen=True)
class Block:
    """A header block, and in a few words what is wrong with it. None: the message has no headers."""

    damage: str
    data: bytes | None


def block(headers: dict[str, str]) -> bytes:
    """A well-formed header block."""
    return LINE + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n"


def proper(subject: str, identity: str, **more: str) -> dict[str, str]:
    """The headers that a message of ours has."""
    return {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-type": subject,
        "ce-source": "/openqrm/fuzz",
        "ce-time": "2026-03-14T12:00:00+00:00",
        "content-type": "application/json",
        "Nats-Msg-Id": identity,
        **more,
    }


def hostile(subject: str, identity: str) -> list[Block]:
    """Every kind of damage once."""
    good = proper(subject, identity)
    status = [f"{code} {words}".strip() for code in ("100", "404", "408", "409", "503") for words in ("", "No")]
    return [
        Block("no headers", None),
        Block("an empty block", LINE + b"\r\n"),
        Block("two bytes", b"\r\n"),
        Block("the version only", b"NATS/1.0"),
        Block("no version", b"ce-id: 1\r\n\r\n"),
        Block("a status that is not text", b"NATS/1.0 \xff\xfe\xfd \xff\r\nce-id: 1\r\n\r\n"),
        Block("a description that is not text", b"NATS/1.0 503 \xff\xfe\r\n\r\n"),
        *(Block(f"an inline status {each}", f"NATS/1.0 {each}\r\n\r\n".encode()) for each in status),
        *(Block(f"a Status header {each[:3]}", block({**good, "Status": each[:3]})) for each in status[::2]),
        Block("a consumer deleted", block({"Status": "409", "Description": "Consumer Deleted"})),
        Block("lines without a colon", LINE + b"no colon at all\r\n: no name\r\n\r\n"),
        Block("names that are not text", LINE + b"\xff\xfe: x\r\n\x00: y\r\n\r\n"),
        Block("values that are not text", LINE + b"ce-id: \xff\xfe\x00\r\nce-type: \xf0\x28\r\n\r\n"),
        Block("an error header", block({**good, "openqrm-error": "internal"})),
        Block("another version", block({**good, "ce-specversion": "9.9", "ce-schemaversion": "-1"})),
        Block("a wrong type", block({**good, "ce-type": "host.remove"})),
        Block("a type with everything in it", block({**good, "ce-type": 'a"b\\{}\u202e' + "t" * 3000})),
        Block("an id that is none", block({**good, "ce-id": "\u0000", "Nats-Msg-Id": f"other {identity}"})),
        Block("a long id", block({**good, "ce-id": "i" * 20_000, "Nats-Msg-Id": f"long {identity}"})),
        Block("an empty id", block({**good, "ce-id": ""})),
        Block("no id", block({name: value for name, value in good.items() if name != "ce-id"})),
        Block("a wrong time", block({**good, "ce-time": "yesterday\x07"})),
        Block("a wrong trace", block({**good, "traceparent": "00-zz-zz-zz", "tracestate": "=,=,=" * 900})),
        Block("a trace of zeros", block({**good, "traceparent": f"00-{'0' * 32}-{'0' * 16}-01"})),
        Block("a lot of headers", block({**good, **{f"x-{number}": "y" * 20 for number in range(2000)}})),
        Block("another content type", block({**good, "content-type": "text/html"})),
        Block("the same name twice", block(good)[:-2] + b"ce-id: another\r\nCe-Id: third\r\n\r\n"),
        Block("a wish of its sender", block({**good, "Nats-TTL": "1s", "Nats-Rollup": "all"})),
    ]
