"""An upload's bytes as they come: the whole body, or the file of a multipart form."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from openqrm.gateway.problems import HttpError

_FIELD_MAX_BYTES = 4096
FILE_FIELD = "file"


class Upload:
    """The text fields that came before the file, and the file's bytes."""

    def __init__(self, fields: dict[str, str], chunks: AsyncIterator[bytes], size: int | None) -> None:
        self.fields = fields
        self.chunks = chunks
        self.size = size
        """Bytes of the file, where the client said so."""


async def open_upload(request: Request) -> Upload:
    """Begin to read an upload."""
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdigit() else None
    if content_type in (b"", b"application/octet-stream"):
        return Upload({}, request.stream(), size)
    if content_type == b"multipart/form-data" and b"boundary" in options:
        form = _Form(options[b"boundary"], request.stream())
        return Upload(await form.fields_before_file(), form.file(), None)
    raise HttpError(
        415,
        "unsupported-media-type",
        "An image is sent as application/octet-stream, or as the field 'file' of multipart/form-data.",
    )


class _Form:
    """A multipart form that is read as it comes; nothing is put aside."""

    def __init__(self, boundary: bytes, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._fields: dict[str, bytes] = {}
        self._name = ""
        self._header = b""
        self._value = b""
        self._file: list[bytes] = []
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_end": self._end,
            },
        )

    async def fields_before_file(self) -> dict[str, str]:
        """Read up to the file."""
        while not self._in_file and await self._feed():
            pass
        if not self._in_file:
            raise HttpError(
                422, "invalid", f"The form has no field {FILE_FIELD!r} with the image. Add it as the last field."
            )
        return {name: value.decode("utf-8", "replace") for name, value in self._fields.items()}

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes."""
        while True:
            pieces, self._file = self._file, []
            for piece in pieces:
                yield piece
            if not await self._feed():
                break
        for piece in self._file:
            yield piece
        if not self._ended:
            raise HttpError(400, "malformed", "The form ended before its last boundary. Send it again.")

    async def _feed(self) -> bool:
        try:
            chunk = await anext(self._stream)
        except StopAsyncIteration:
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise HttpError(400, "malformed", f"The form cannot be read: {error}. Send it again.") from error
        return True

    def _part_begin(self) -> None:
        self._name, self._header, self._value = "", b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        if self._name == FILE_FIELD:
            self._in_file = True
        elif self._in_file:
            raise HttpError(422, "invalid", f"The field {FILE_FIELD!r} has to be the last one of the form.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self._file.append(data[start:end])
            return
        value = self._fields.get(self._name, b"") + data[start:end]
        if len(value) > _FIELD_MAX_BYTES or len(self._fields) > 20:
            raise HttpError(413, "too-large", f"The form's field {self._name[:50]!r} is too large.")
        self._fields[self._name] = value

    def _end(self) -> None:
        self._ended = True


async def discard(stream: AsyncIterator[bytes], seconds: float) -> None:
    """Read on for a moment and throw it away, so that the client gets to read why its upload was refused."""
    with suppress(Exception):
        async with asyncio.timeout(seconds):
            async for _ in stream:
                pass
