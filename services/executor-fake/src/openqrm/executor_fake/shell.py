"""The shell on a fake guest's serial console: it echoes, and knows a handful of words. Pure."""

from enum import StrEnum


class Wish(StrEnum):
    """What a guest's user wants of the machine itself."""

    POWER_OFF = "poweroff"
    CRASH = "crash"


class Shell:
    """One terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._line = bytearray()
        self._last = 0
        self.wish: Wish | None = None
        """Set when the machine is to end."""

    def greeting(self) -> bytes:
        """What is seen first."""
        return f"{self._name} (fake guest)\r\n# ".encode()

    def feed(self, data: bytes) -> bytes:
        """Take what was typed; returns what is seen."""
        seen = bytearray()
        for byte in data:
            if byte in b"\r\n":
                if byte == ord("\n") and self._last == ord("\r"):
                    self._last = byte
                    continue
                seen += b"\r\n" + self._run(bytes(self._line)) + b"# "
                self._line.clear()
            elif byte in b"\x7f\x08":
                if self._line:
                    self._line.pop()
                    seen += b"\b \b"
            else:
                self._line.append(byte)
                seen.append(byte)
            self._last = byte
        return bytes(seen)

    def _run(self, line: bytes) -> bytes:
        word, _, rest = line.partition(b" ")
        match word:
            case b"":
                return b""
            case b"echo":
                return rest + b"\r\n"
            case b"hostname":
                return self._name.encode() + b"\r\n"
            case b"yes":
                return b"y\r\n" * min(int(rest) if rest.isdigit() else 1000, 1_000_000)
            case b"poweroff" | b"crash":
                self.wish = Wish(word.decode())
                return b"bye\r\n"
            case _:
                return word + b": not found (try echo, hostname, yes, poweroff, crash)\r\n"
