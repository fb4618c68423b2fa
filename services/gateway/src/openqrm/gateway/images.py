"""The image folder: uploads are streamed to disk, hashed, recognised, and kept under their SHA-256."""

import asyncio
import errno
import hashlib
import os
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import structlog

from openqrm.contracts.clock import Clock
from openqrm.contracts.image import ImageFormat
from openqrm.gateway.problems import HttpError, invalid
from openqrm.gateway.settings import MIB, GatewaySettings

INCOMING = ".incoming"
_ABANDONED_SECONDS = 24 * 3600.0
_BUFFER = 4 * MIB
_QCOW2_MAGIC = b"QFI\xfb"
_ISO_OFFSET, _ISO_MAGIC = 32769, b"CD001"
_HEAD = _ISO_OFFSET + len(_ISO_MAGIC)
_EXTERNAL_DATA_FILE = 1 << 2


@dataclass(frozen=True)
class StoredImage:
    """An image's file, in its place."""

    path: Path
    format: ImageFormat
    size_bytes: int
    virtual_size_mib: int
    sha256: str
    is_new: bool
    """Whether the folder did not have these bytes before."""

    @property
    def location(self) -> str:
        """Where executors read it."""
        return self.path.as_uri()


class ImageFolder:
    """Keeps images' bytes."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._folder = settings.image_folder.absolute()
        self._max_bytes = settings.image_max_bytes
        self._reserve = settings.image_disk_reserve_bytes
        self._clock = clock
        self._log = structlog.get_logger(service="gateway")

    def start(self) -> None:
        """Make the folder, and clear away what uploads left that died with their gateway."""
        incoming = self._folder / INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        now = self._clock.now().timestamp()
        for path in incoming.iterdir():
            with suppress(OSError):
                if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def check_room(self, size: int | None) -> None:
        """Refuse early what cannot be kept."""
        if size is not None and size > self._max_bytes:
            raise self._too_large()
        try:
            free = shutil.disk_usage(self._folder).free - self._reserve
        except OSError as error:
            raise self._cannot_write(error) from error
        if free < (size or 1):
            raise self._full(f"{max(free, 0) // MIB} MiB can be used")

    async def store(
        self, chunks: AsyncIterator[bytes], sha256: str | None, wanted: ImageFormat | None, expected_size: int | None
    ) -> StoredImage:
        """Write, hash, check and name an image's bytes; whatever goes wrong, no piece of it stays."""
        path = self._folder / INCOMING / uuid4().hex
        try:
            writer = await asyncio.to_thread(_Writer, path)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            try:
                await self._receive(chunks, writer)
                if expected_size is not None and writer.size != expected_size:
                    raise HttpError(
                        400, "malformed",
                        f"{writer.size} of {expected_size} bytes came, then the connection ended. Send it again.",
                    )  # fmt: skip
                digest = await asyncio.to_thread(writer.finish)
            except OSError as error:
                raise self._cannot_write(error) from error
            if sha256 is not None and digest != sha256.lower():
                raise invalid(
                    "sha256", f"the bytes that came have {digest}; they were damaged on the way, or are another file"
                )
            image_format, virtual_size_mib = recognise(writer.head, writer.size, wanted)
            return await asyncio.to_thread(self._put, path, writer, digest, image_format, virtual_size_mib)
        finally:
            writer.close()
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _receive(self, chunks: AsyncIterator[bytes], writer: "_Writer") -> None:
        buffer = bytearray()
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _BUFFER:
                if writer.size + len(buffer) > self._max_bytes:
                    raise self._too_large()
                await asyncio.to_thread(writer.write, bytes(buffer))
                buffer.clear()
                self.check_room(None)
        if writer.size + len(buffer) > self._max_bytes:
            raise self._too_large()
        await asyncio.to_thread(writer.write, bytes(buffer))

    def _put(
        self, path: Path, writer: "_Writer", digest: str, image_format: ImageFormat, virtual_size_mib: int
    ) -> StoredImage:
        place = self._folder / f"{digest}.{image_format.value}"
        is_new = not place.exists()
        if is_new:
            path.chmod(0o644)  # hypervisors read it as users of their own
            path.replace(place)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return StoredImage(place, image_format, writer.size, virtual_size_mib, digest, is_new)

    def owns(self, location: str) -> Path | None:
        """The file of a location, if it is one that `store` made."""
        path = Path(unquote(location.removeprefix("file://")))
        stem_is_digest = len(path.stem) == 64 and set(path.stem) <= set("0123456789abcdef")
        return path if location.startswith("file:///") and path.parent == self._folder and stem_is_digest else None

    async def remove(self, path: Path) -> None:
        """Delete an image's bytes."""
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            self._log.warning("an image's file cannot be deleted", path=str(path), error=str(error))

    def _too_large(self) -> HttpError:
        return HttpError(
            413, "too-large",
            f"The image is larger than {self._max_bytes} bytes, the most that is taken. "
            "Make it smaller (qcow2), or have image_max_bytes raised.",
            details={"limit_bytes": self._max_bytes}, headers={"Connection": "close"},
        )  # fmt: skip

    def _full(self, why: str) -> HttpError:
        return HttpError(
            507, "storage-full",
            f"The disk of the image folder {self._folder} is full: {why}. Delete images or other files there.",
            headers={"Connection": "close"},
        )  # fmt: skip

    def _cannot_write(self, error: OSError) -> HttpError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._full(error.strerror or "no space left")
        self._log.error("the image folder cannot be written", error=str(error))
        return HttpError(
            503, "unavailable",
            f"The image folder {self._folder} cannot be written: {error.strerror}. An administrator has to mend it.",
        )  # fmt: skip


class _Writer:
    """A file that is hashed as it is written; used from threads, one call at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self.head = b""
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append."""
        if len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> str:
        """Bring it to the disk and return its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            self._file.close()


def recognise(head: bytes, size: int, wanted: ImageFormat | None) -> tuple[ImageFormat, int]:
    """An image's format by its first bytes, and the MiB of the disk that it unfolds to."""
    if size == 0:
        raise invalid("file", "the image is empty")
    found = ImageFormat.RAW
    virtual_bytes = size
    if head.startswith(_QCOW2_MAGIC):
        found, virtual_bytes = ImageFormat.QCOW2, _qcow2_size(head)
    elif head[_ISO_OFFSET : _ISO_OFFSET + len(_ISO_MAGIC)] == _ISO_MAGIC:
        found = ImageFormat.ISO
    # A disk can begin with an ISO 9660 file system (hybrid images), so raw is what its owner says it is;
    # what begins as qcow2 is never taken for raw, since its guest could then name files of the host.
    if wanted is ImageFormat.RAW and found is ImageFormat.ISO:
        found = ImageFormat.RAW
    if wanted is not None and wanted is not found:
        raise invalid("format", f"the bytes are {found.value}, not {wanted.value}; say {found.value}, or nothing")
    return found, max(1, -(-virtual_bytes // MIB))


def _qcow2_size(head: bytes) -> int:
    if len(head) < 72:
        raise invalid("file", "it begins as qcow2 and ends before its header does; the file is damaged")
    version, backing_file, _, _, virtual_size = struct.unpack(">IQIIQ", head[4:32])
    if version not in (2, 3):
        raise invalid("file", f"it is qcow2 of the unknown version {version}; 2 and 3 are known")
    if backing_file:
        raise invalid(
            "file", "it is a qcow2 that needs another file (backing file); flatten it with 'qemu-img convert -O qcow2'"
        )
    if version == 3 and len(head) >= 80 and struct.unpack(">Q", head[72:80])[0] & _EXTERNAL_DATA_FILE:
        raise invalid(
            "file", "it is a qcow2 whose data lie in another file; flatten it with 'qemu-img convert -O qcow2'"
        )
    if virtual_size == 0:
        raise invalid("file", "it is a qcow2 of a disk without a size")
    return int(virtual_size)
