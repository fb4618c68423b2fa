"""From a message as it should be to messages as nobody should send them."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308, float("inf"), float("nan"),
    "", " ", "\x00", "a\x00b", "\ud800", "x" * 70_000, "../../etc/passwd", "%s%n{0}", "'; DROP TABLE operations; --",
    "\u202e\u0007\r\nevent: forged", "00000000-0000-0000-0000-000000000000", "not an id", "ff:ff:ff:ff:ff:ff",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-03-14T12:00:00", "2026-03-14T12:00:00+23:59",
    [], {}, [[]], {"": ""}, {"a\x00": "b"},
)  # fmt: skip
"""Values that no field is made for, or at the edge of what one is made for."""

DEPTH = 5_000
"""Brackets in each other: more than a recursive parser has stack for."""

HUGE_BYTES = 900_000
"""Just below what NATS takes as one message."""


@dataclass(frozen=True)
class Body:
    """A message's body, and in a few words what is wrong with it."""

    damage: str
    data: bytes


def dump(value: Any) -> bytes:
    """As JSON, with what strict JSON does not have (NaN, Infinity) written as Python does."""
    return json.dumps(value).encode()


def shapes(sample: Any, rng: random.Random) -> Iterator[Body]:
    """Damage that does not look at the fields."""
    whole = dump(sample)
    yield Body("as it should be", whole)
    yield Body("nothing at all", b"")
    yield Body("random bytes", rng.randbytes(rng.randint(1, 300)))
    yield Body("cut off", whole[: rng.randrange(len(whole))])
    yield Body("one bit of it flipped", _flip(whole, rng))
    yield Body("NUL bytes in it", b"\x00" + whole.replace(b'"', b'\x00"', 1))
    yield Body("not UTF-8", whole.replace(b'"', b'"\xff\xfe', 1))
    yield Body("another type", dump(rng.choice([None, [], 7, "text", [sample], True, 1e999])))
    yield Body("deep", b"[" * DEPTH + b"]" * DEPTH)
    yield Body("a deep field", whole[:-1] + b', "deep": ' + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b"}")
    yield Body("a field twice", whole[:-1] + b", " + whole[1:])
    yield Body("a field that nobody knows", dump({**sample, "nobody knows this": 1, "\x00": "\x00"}))


def huge(sample: Any) -> Body:
    """As large as the bus takes."""
    return Body("huge", dump({**sample, "padding": "p" * HUGE_BYTES}))


def fields(sample: Any, rng: random.Random) -> Iterator[Body]:
    """Each field once with a hostile value, and once left out; in an order of chance, without end."""
    paths = list(paths_of(sample))
    while not paths:
        yield Body("a field where there is none", dump({"field": rng.choice(HOSTILE)}))
    while True:
        rng.shuffle(paths)
        for path in paths:
            yield damaged(sample, path, rng)


def damaged(sample: Any, path: Path, rng: random.Random) -> Body:
    """A copy with one field changed or left out."""
    copy = deepcopy(sample)
    here = copy
    for part in path[:-1]:
        here = here[part]
    dotted = ".".join(map(str, path))
    if rng.random() < 0.15:
        del here[path[-1]]
        return Body(f"{dotted} left out", dump(copy))
    value = rng.choice(HOSTILE)
    here[path[-1]] = value
    return Body(f"{dotted} is {str(value)[:40]!r} ({type(value).__name__})", dump(copy))


def paths_of(value: Any, here: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value that can be changed."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*here, key)
        yield from paths_of(inner, (*here, key))


def _flip(whole: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(whole))
    return whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :]
