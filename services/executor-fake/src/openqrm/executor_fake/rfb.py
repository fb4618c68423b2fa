"""The server's side of VNC (RFB 3.8, RFC 6143) with a black screen: bytes in, bytes out. Pure."""

import struct

WIDTH, HEIGHT = 64, 48

_VERSION = b"RFB 003.008\n"
_PIXEL_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
_MESSAGE_SIZES = {0: 20, 3: 10, 4: 8, 5: 6}
"""By message type: SetPixelFormat, FramebufferUpdateRequest, KeyEvent, PointerEvent."""
_SET_ENCODINGS, _CUT_TEXT, _SET_PIXEL_FORMAT, _UPDATE_REQUEST = 2, 6, 0, 3


class RfbError(Exception):
    """The client does not speak RFB."""


class BlackScreen:
    """One VNC session."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._stage = "version"
        self._buffer = b""
        self._bytes_per_pixel = 4
        self._told_whole = False

    def greeting(self) -> bytes:
        """What the server says first."""
        return _VERSION

    def feed(self, data: bytes) -> bytes:
        """Take what the client says, in pieces of any size; returns what to answer. Raises RfbError for nonsense."""
        self._buffer += data
        answer = b""
        while (step := self._step()) is not None:
            answer += step
        return answer

    def _step(self) -> bytes | None:
        """Handle one message; None when it is not complete yet."""
        match self._stage:
            case "version":
                version = self._take(12)
                if version is None:
                    return None
                if not version.startswith(b"RFB 003."):
                    raise RfbError("the client does not speak RFB 3")
                self._stage = "security"
                return b"\x01\x01"  # one type: none
            case "security":
                if self._take(1) is None:
                    return None
                self._stage = "init"
                return struct.pack(">I", 0)
            case "init":
                if self._take(1) is None:
                    return None
                self._stage = "messages"
                size = struct.pack(">HH", WIDTH, HEIGHT)
                return size + _PIXEL_FORMAT + struct.pack(">I", len(self._name)) + self._name
            case _:
                return self._message()

    def _message(self) -> bytes | None:
        if not self._buffer:
            return None
        kind = self._buffer[0]
        size = self._size_of(kind)
        message = self._take(size) if size else None
        if message is None:
            return None
        if kind == _SET_PIXEL_FORMAT:
            self._bytes_per_pixel = max(message[4] // 8, 1)
        if kind == _UPDATE_REQUEST:
            return self._update(incremental=bool(message[1]))
        return b""

    def _size_of(self, kind: int) -> int | None:
        if kind in _MESSAGE_SIZES:
            return _MESSAGE_SIZES[kind]
        if kind == _SET_ENCODINGS:
            return 4 + 4 * int.from_bytes(self._buffer[2:4]) if len(self._buffer) >= 4 else None
        if kind == _CUT_TEXT:
            return 8 + int.from_bytes(self._buffer[4:8]) if len(self._buffer) >= 8 else None
        raise RfbError(f"unknown message {kind}")

    def _update(self, incremental: bool) -> bytes:
        if incremental and self._told_whole:
            return b""  # a black screen that stays black
        self._told_whole = True
        rectangle = struct.pack(">HHHHi", 0, 0, WIDTH, HEIGHT, 0)
        return struct.pack(">BxH", 0, 1) + rectangle + bytes(WIDTH * HEIGHT * self._bytes_per_pixel)

    def _take(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            return None
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
