"""Copies a volume from one host to another, through the executor, holes kept. Blocking: runs in a thread."""

import threading
from typing import Any

import libvirt

from openqrm.executor_qemu.pools import delete_volume, ensure_pool, make_volume

_CHUNK = 256 * 1024
_HOLE = -3


class VolumeCopy:
    """One copy, carried out by a thread and watched from the event loop."""

    def __init__(self, name: str, source_path: str, target_path: str) -> None:
        self._name = name
        self._source_path = source_path
        self._target_path = target_path
        self._stop = threading.Event()
        self.total = 0
        self.copied = 0
        """Bytes, holes included."""

    def stop(self) -> None:
        """End it soon."""
        self._stop.set()

    def run(self, source: Any, target: Any) -> None:
        """Copy from the one libvirt connection to the other; what lies on the target under this name is replaced."""
        volume = ensure_pool(source, self._source_path).storageVolLookupByName(self._name)
        pool = ensure_pool(target, self._target_path)
        delete_volume(pool, self._name)
        # Bytes are copied as they lie, whatever their format; `physical` is the length of the file.
        _kind, _capacity, self.total = volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL)
        copy = make_volume(pool, self._name, "raw", self.total)
        down, up = source.newStream(0), target.newStream(0)
        volume.download(down, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
        copy.upload(up, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
        try:
            self._pump(down, up)
        except BaseException:
            for stream in (down, up):
                stream.abort()
            raise
        down.finish()
        up.finish()

    def _pump(self, down: Any, up: Any) -> None:
        while True:
            if self._stop.is_set():
                raise InterruptedError("the copy was given up")
            data = down.recvFlags(_CHUNK, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE)
            if data == _HOLE:
                length = down.recvHole()
                up.sendHole(length)
                self.copied += length
                continue
            if not data:
                return
            self.copied += len(data)
            while data:
                data = data[up.send(data) :]
