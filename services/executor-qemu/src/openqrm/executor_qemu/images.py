"""Images on a host: uploaded once each, verified on the way, cloned from then on."""

import asyncio
import hashlib
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import libvirt

from openqrm.contracts.errors import InvalidError, NotFoundError, TemporaryError
from openqrm.contracts.image import ImageFormat
from openqrm.contracts.partition import ImageContent
from openqrm.driver.capabilities import Work
from openqrm.executor_qemu.connection import HostLink
from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.errors import RETRY_BUSY_SECONDS, code_of, translate
from openqrm.executor_qemu.naming import COMPLETE_SUFFIX, image_prefix, image_volume_name
from openqrm.executor_qemu.pools import delete_volume, ensure_pool, find_volume, make_volume

_HEADER_BYTES = 104
_QCOW2_MAGIC = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2
_SOURCE_TIMEOUT_SECONDS = 60
_PROGRESS_SECONDS = 0.5
_STALE_SECONDS = 24 * 3600


def check_header(image: ImageContent, header: bytes) -> int:
    """The disk size in bytes that an image's first bytes promise.

    Raises InvalidError when they are not of the declared format, or when they make the hypervisor read another
    file of the host: a qcow2 image can name one as its base.
    """
    begin = f"Image {image.image_id} at {image.location}"
    is_qcow2 = header[:4] == _QCOW2_MAGIC
    if image.format is not ImageFormat.QCOW2:
        if is_qcow2:
            raise InvalidError(f"{begin} is declared as {image.format} but is a qcow2 image.")
        return image.size_bytes
    if not is_qcow2 or len(header) < 72:
        raise InvalidError(f"{begin} is declared as qcow2 but is not one.")
    version, backing = struct.unpack_from(">IQ", header, 4)
    (size,) = struct.unpack_from(">Q", header, 24)
    if version not in (2, 3):
        raise InvalidError(f"{begin} is qcow2 version {version}; use version 3.")
    if backing:
        raise InvalidError(f"{begin} has a base file. Flatten it: qemu-img convert -O qcow2 OLD NEW.")
    if version == 3 and len(header) >= 80:
        (incompatible,) = struct.unpack_from(">Q", header, 72)
        if incompatible & _EXTERNAL_DATA:
            raise InvalidError(
                f"{begin} keeps its data in another file. Convert it: qemu-img convert -O qcow2 OLD NEW."
            )
    return int(size)


def open_source(image: ImageContent) -> IO[bytes]:
    """The image's bytes, from a file of this machine or over HTTP. Blocking."""
    parts = urlsplit(image.location)
    begin = f"Image {image.image_id} cannot be read at {image.location}"
    try:
        if parts.scheme == "file":
            return open(unquote(parts.path), "rb")  # noqa: PTH123 - closed by the caller
        if parts.scheme in ("http", "https"):
            source: IO[bytes] = urllib.request.urlopen(image.location, timeout=_SOURCE_TIMEOUT_SECONDS)  # noqa: S310
            return source
    except urllib.error.HTTPError as error:
        kind = NotFoundError if error.code in (403, 404, 410) else TemporaryError
        raise kind(f"{begin}: HTTP {error.code} {error.reason}") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{begin}: there is no such file on the executor's machine.") from error
    except OSError as error:
        raise TemporaryError(f"{begin}: {error}", retry_after=RETRY_BUSY_SECONDS) from error
    raise InvalidError(f"{begin}: only file, http and https are supported.")


class Upload:
    """One upload, carried out by a thread and watched from the event loop."""

    def __init__(self, image: ImageContent, pool_path: str, name: str) -> None:
        self._image = image
        self._pool_path = pool_path
        self._name = name
        self._stop = threading.Event()
        self.sent = 0

    def stop(self) -> None:
        """End it soon; its volume is then never used."""
        self._stop.set()

    def run(self, connection: Any) -> None:
        """Send the bytes, check their sum, and say with a second volume that the first is complete. Blocking."""
        with open_source(self._image) as source:
            header = source.read(_HEADER_BYTES)
            capacity = check_header(self._image, header)
            layout = "qcow2" if self._image.format is ImageFormat.QCOW2 else "raw"
            pool = ensure_pool(connection, self._pool_path)
            volume = make_volume(pool, self._name, layout, capacity)
            try:
                self._send(connection, volume, header, source)
            except BaseException:
                delete_volume(pool, self._name)
                raise
            make_volume(pool, self._name + COMPLETE_SUFFIX, "raw", 0)

    def _send(self, connection: Any, volume: Any, header: bytes, source: IO[bytes]) -> None:
        image, digest, first = self._image, hashlib.sha256(), header
        stream = connection.newStream(0)
        volume.upload(stream, 0, image.size_bytes, 0)

        def more(_stream: object, wanted: int, _opaque: object) -> bytes:
            nonlocal first
            if self._stop.is_set():
                raise InterruptedError("the upload was given up")
            data, first = (first, b"") if first else (source.read(wanted), b"")
            digest.update(data)
            self.sent += len(data)
            if self.sent > image.size_bytes:
                raise InvalidError(
                    f"Image {image.image_id} is longer than the {image.size_bytes} bytes it should have."
                )
            return data

        stream.sendAll(more, None)
        if self.sent != image.size_bytes or digest.hexdigest() != image.sha256:
            stream.abort()
            raise InvalidError(
                f"Image {image.image_id} at {image.location} is not what was registered: {self.sent} bytes with "
                f"SHA-256 {digest.hexdigest()}, expected {image.size_bytes} bytes with {image.sha256}."
            )
        stream.finish()


def complete_image(pool: Any, sha256: str) -> str | None:
    """The name of a completely uploaded volume of this image, or None."""
    names = {volume.name() for volume in pool.listAllVolumes(0)}
    prefix = image_prefix(sha256)
    found = sorted(name for name in names if name.startswith(prefix) and name + COMPLETE_SUFFIX in names)
    return found[0] if found else None


def _delete_stale(pool: Any, sha256: str, now: float) -> None:
    """Delete uploads that were begun long ago and never finished."""
    volumes = {volume.name(): volume for volume in pool.listAllVolumes(0)}
    for name, volume in volumes.items():
        if not name.startswith(image_prefix(sha256)) or name.endswith(COMPLETE_SUFFIX):
            continue
        changed = parse_xml(volume.XMLDesc(0)).findtext("target/timestamps/mtime")
        if name + COMPLETE_SUFFIX not in volumes and changed and now - float(changed) > _STALE_SECONDS:
            volume.delete(0)


async def ensure_image(link: HostLink, image: ImageContent, work: Work) -> str:
    """The name of the image's volume on the host, uploaded if it is not there yet."""
    path = link.host.connection.storage_path
    doing = f"upload image {image.image_id}"

    def look(connection: Any) -> str | None:
        pool = ensure_pool(connection, path)
        name = complete_image(pool, image.sha256)
        if name is None and link.host.connection.shared_storage:
            try:
                pool.refresh(0)
            except libvirt.libvirtError:
                return None  # busy: at worst it is uploaded once more
            name = complete_image(pool, image.sha256)
        return name

    async with link.uploading:
        name = await link.call(f"look for image {image.image_id}", look)
        if name is not None:
            return name
        name = image_volume_name(image.sha256, uuid4().hex[:8], image.format)
        upload = Upload(image, path, name)
        now = link.clock.now().timestamp()
        await link.call(doing, lambda connection: _delete_stale(ensure_pool(connection, path), image.sha256, now))
        await _watched(link, upload.run, upload, image, work, doing)
        return name


async def _watched(
    link: HostLink, run: Callable[[Any], None], upload: Upload, image: ImageContent, work: Work, doing: str
) -> None:

    async with link.dedicated() as session:
        sending = asyncio.ensure_future(session.run(run, None))
        seen, silent = 0, 0.0
        try:
            while not sending.done():
                pause = asyncio.ensure_future(link.clock.sleep(_PROGRESS_SECONDS))
                await asyncio.wait({sending, pause}, return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
                silent = 0.0 if upload.sent != seen else silent + _PROGRESS_SECONDS
                seen = upload.sent
                if silent > _SOURCE_TIMEOUT_SECONDS:
                    raise TemporaryError(
                        f"Could not {doing} to host '{link.host.name}': no byte went through for "
                        f"{_SOURCE_TIMEOUT_SECONDS} s.",
                        retry_after=RETRY_BUSY_SECONDS,
                    )
                share = min(seen / max(image.size_bytes, 1), 1.0)
                await work.progress(
                    int(75 * share), f"uploading image, {seen // 2**20} of {image.size_bytes // 2**20} MiB"
                )
            sending.result()
        except libvirt.libvirtError as error:
            raise translate(code_of(error), str(error), doing, link.host.name, session.lost) from error
        except OSError as error:
            raise TemporaryError(f"Could not {doing}: {error}", retry_after=RETRY_BUSY_SECONDS) from error
        finally:
            upload.stop()
            if not sending.done():
                sending.cancel()


async def image_path(link: HostLink, image: ImageContent, work: Work) -> str:
    """The path of an image's volume on the host, for a CD-ROM that is read in place."""
    name = await ensure_image(link, image, work)
    path = link.host.connection.storage_path

    def find(connection: Any) -> str:
        volume = find_volume(ensure_pool(connection, path), name)
        if volume is None:
            raise NotFoundError(f"Image {image.image_id} vanished from {path} on host '{link.host.name}'.")
        return str(volume.path())

    return await link.call(f"find image {image.image_id}", find)
