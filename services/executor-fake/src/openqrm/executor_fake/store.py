"""Keeps a host's content: in memory, or in one JSON file that is replaced whole.

The file is read again when somebody else has replaced it, and a lock file makes a change atomic, so that several
executor processes can share the folder and `kill -9` at any moment loses nothing that was acknowledged.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from openqrm.executor_fake.state import HostContent


class HostStore:
    """The content of one host."""

    def __init__(self, folder: Path | None, name: str, fresh: HostContent) -> None:
        self._content = fresh
        self._file = folder / f"{quote(name, safe='')}.json" if folder else None
        self._seen: tuple[int, int, int] | None = None
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> HostContent:
        """The content as it is now; not to be changed."""
        if self._file:
            self._reload(self._file)
        return self._content

    @contextmanager
    def change(self) -> Iterator[HostContent]:
        """Change the content, without awaiting anything meanwhile; kept when the block ends without an error."""
        if self._file is None:
            yield self._content
            return
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._reload(self._file)
            try:
                yield self._content
            except BaseException:
                self._seen = None  # half changed: the file is right
                raise
            self._write(self._file)

    def _reload(self, file: Path) -> None:
        try:
            status = file.stat()
        except FileNotFoundError:
            return
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._content = HostContent.model_validate_json(file.read_bytes())
            self._seen = seen

    def _write(self, file: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
        with os.fdopen(descriptor, "wb") as new:
            new.write(self._content.model_dump_json(indent=1).encode())
        Path(name).replace(file)
        status = file.stat()
        self._seen = (status.st_ino, status.st_mtime_ns, status.st_size)
