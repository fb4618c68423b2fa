"""Identifiers and names: what may name a thing, and how a new thing gets its id."""

import re
import unicodedata
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field
from uuid_utils.compat import uuid7

MAX_NAME_LENGTH = 200
"""Characters of a name, counted after Unicode normalisation (NFC)."""

_ID_LENGTH = 36

_TOKEN = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def new_id() -> UUID:
    """A new UUIDv7: unique everywhere, and later ids sort after earlier ones."""
    return uuid7()


def is_id(text: str) -> bool:
    """Whether the text is a UUID, in the one form that we print it in."""
    if len(text) != _ID_LENGTH:
        return False
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _check_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise ValueError("a name needs at least one visible character")
    if name != name.strip():
        raise ValueError("a name must not begin or end with white space")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a name has at most {MAX_NAME_LENGTH} characters, this one has {len(name)}")
    plain = name.isascii() and name.isprintable()  # most are, and each event carries some
    if not plain and any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in name):
        raise ValueError("a name must not contain control characters or line breaks")
    if is_id(name):
        raise ValueError("a name must not look like an id (UUID), since names and ids are used in the same places")
    return name


def _check_token(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ValueError("use 1-32 lower-case letters, digits and dashes, beginning with a letter")
    return token


def _check_mac(mac: str) -> str:
    mac = mac.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError("a MAC address has six pairs of hexadecimal digits, such as 52:54:00:12:34:56")
    if int(mac[:2], 16) & 1:
        raise ValueError("this is a group (multicast) address; a NIC needs an individual one (even first byte)")
    return mac


def _check_tag(tag: str) -> str:
    tag = _check_name(tag)
    if "," in tag or len(tag) > 64:
        raise ValueError("a tag has at most 64 characters and no comma")
    return tag


Name = Annotated[str, AfterValidator(_check_name), Field(examples=["web 1"])]
"""What a person calls a thing: any Unicode text of 1 to 200 characters, unique per kind of thing."""

Ref = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH, examples=["web 1"])]
"""A thing's id or its name."""

Technology = Annotated[str, AfterValidator(_check_token), Field(examples=["qemu"])]
"""The word for one virtualization technology; also a token of bus subjects."""

MacAddress = Annotated[str, AfterValidator(_check_mac), Field(examples=["52:54:00:12:34:56"])]
"""Six bytes in lower-case hexadecimal, separated by colons."""

Tag = Annotated[str, AfterValidator(_check_tag), Field(examples=["ssd"])]
