"""openQRM's own log: only for its owner, limited in size, and never a reason to fail."""

import io
import os
import stat
from contextlib import suppress
from pathlib import Path

LIMIT_BYTES = 64 * 1024 * 1024


class LogFile(io.TextIOBase):
    """A text stream that appends to a file; the file before it is kept as `.1`.

    Whoever writes here is in the middle of something more important: a line that finds no room on the disk is lost,
    and nothing is raised.
    """

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        """Open the file. Raises OSError when that cannot be done."""
        super().__init__()
        self._path = path
        self._limit = limit_bytes
        self._file = self._open()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Append the text, as a whole or not at all."""
        data = text.encode(errors="replace")
        with suppress(OSError):
            if self._size + len(data) > self._limit:
                self._begin_anew()
            self._size += os.write(self._file, data)
        return len(text)

    def close(self) -> None:
        """Close the file; what is written later is lost."""
        if not self.closed:
            os.close(self._file)
            self._file = -1
        super().close()

    def _open(self) -> int:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        status = os.fstat(file)
        if stat.S_ISREG(status.st_mode):
            os.fchmod(file, 0o600)
        self._size = status.st_size
        return file

    def _begin_anew(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        old, self._file = self._file, self._open()
        os.close(old)
