"""libvirt's own event loop, in one daemon thread of the process: events, keepalive and streams need it."""

import contextlib
import threading

import libvirt

_lock = threading.Lock()
_started = False


def _turn() -> None:
    while True:
        # A failed turn must not end the loop for every other host.
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


def start_event_loop() -> None:
    """Start it before the first connection is opened; harmless when repeated."""
    global _started
    with _lock:
        if _started:
            return
        libvirt.virEventRegisterDefaultImpl()
        # Every error is raised as an exception as well; without this it is printed, too.
        libvirt.registerErrorHandler(lambda *_: None, None)
        threading.Thread(target=_turn, name="libvirt-events", daemon=True).start()
        _started = True
