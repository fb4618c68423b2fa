"""One event as clients get it, written once for all of them."""

import json
import re
from functools import cached_property

from pydantic_core import from_json

from openqrm.bus.follow import Followed

_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
"""In JSON they are white space, in a server-sent event the end of a field."""

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class LiveEvent:
    """An event of the stream."""

    def __init__(self, followed: Followed) -> None:
        self.sequence = followed.sequence
        self.subject = followed.subject
        self.headers = followed.headers
        self.body = followed.body

    @cached_property
    def json(self) -> bytes:
        """{sequence, subject, time, about, data}; the data are passed on as they came, if they are JSON."""
        head = json.dumps(
            {
                "sequence": self.sequence,
                "subject": self.subject,
                "time": self.headers.get("ce-time"),
                "about": self.headers.get("ce-subject"),
                **({} if self.is_readable else {"unreadable": True}),
            }
        )
        data = self.body.translate(_LINE_ENDS) if self.is_readable else b"null"
        return head[:-1].encode() + b', "data": ' + data + b"}"

    @cached_property
    def is_readable(self) -> bool:
        """Whether the body is JSON. One that is not would make a page, or a stream, of events unreadable as a whole."""
        try:
            from_json(self.body, allow_inf_nan=False, cache_strings=False)
        except ValueError:
            return False
        return True

    @cached_property
    def text(self) -> str:
        """The same as text, for WebSockets."""
        return self.json.decode("utf-8", "replace")

    @cached_property
    def sse(self) -> bytes:
        """The same as a server-sent event, whose id a browser sends back when it reconnects."""
        return b"id: %d\ndata: %s\n\n" % (self.sequence, self.json)

    @cached_property
    def ids(self) -> frozenset[str]:
        """Every id in the event: of what it is about, and of what it mentions."""
        about = self.headers.get("ce-subject", "").encode()
        return frozenset(found.decode() for found in _UUID.findall(self.body + b" " + about))
