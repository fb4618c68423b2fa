"""libvirt's errors as ours: by code, with a sentence that keeps libvirt's own words."""

from collections.abc import Callable

import libvirt

from openqrm.contracts.errors import (
    CancelledError,
    ConflictError,
    DriverError,
    HostUnreachableError,
    InvalidError,
    NotFoundError,
    OpenQrmError,
    PermanentError,
    ProblemCode,
    TemporaryError,
    UnsupportedError,
    WrongStateError,
)

_LOST_WORDS = (
    "client socket is closed",
    "connection reset by peer",
    "broken pipe",
    "end of file while reading data",
    "cannot write data",
    "cannot recv data",
    "keepalive",
    "connection closed",
)

RETRY_BUSY_SECONDS = 10.0
RETRY_HOST_SECONDS = 15.0


def _forbidden(message: str) -> OpenQrmError:
    return PermanentError(message, code=ProblemCode.FORBIDDEN)


def _busy(message: str) -> OpenQrmError:
    return TemporaryError(message, retry_after=RETRY_BUSY_SECONDS)


def _unreachable(message: str) -> OpenQrmError:
    return HostUnreachableError(message, retry_after=RETRY_HOST_SECONDS)


def _unsafe(message: str) -> OpenQrmError:
    return ConflictError(
        f"{message}. Declare the storage as shared if it is (shared_storage of both hosts, or `shared` of the disk)."
    )


_BY_CODE: dict[int, Callable[[str], OpenQrmError]] = {
    libvirt.VIR_ERR_NO_CONNECT: _unreachable,
    libvirt.VIR_ERR_INVALID_CONN: _unreachable,
    libvirt.VIR_ERR_RPC: _unreachable,
    libvirt.VIR_ERR_GNUTLS_ERROR: _unreachable,
    libvirt.VIR_ERR_AUTH_FAILED: _forbidden,
    libvirt.VIR_ERR_AUTH_CANCELLED: _forbidden,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: _forbidden,
    libvirt.VIR_ERR_ACCESS_DENIED: _forbidden,
    libvirt.VIR_ERR_OPERATION_DENIED: _forbidden,
    libvirt.VIR_ERR_NO_DOMAIN: NotFoundError,
    libvirt.VIR_ERR_NO_STORAGE_VOL: NotFoundError,
    libvirt.VIR_ERR_NO_STORAGE_POOL: NotFoundError,
    libvirt.VIR_ERR_NO_NETWORK: NotFoundError,
    libvirt.VIR_ERR_NO_SECRET: NotFoundError,
    libvirt.VIR_ERR_NO_DOMAIN_METADATA: NotFoundError,
    libvirt.VIR_ERR_DEVICE_MISSING: NotFoundError,
    libvirt.VIR_ERR_OPERATION_INVALID: WrongStateError,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: _busy,
    libvirt.VIR_ERR_RESOURCE_BUSY: _busy,
    libvirt.VIR_ERR_OPERATION_ABORTED: CancelledError,
    libvirt.VIR_ERR_NO_SUPPORT: UnsupportedError,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_INVALID_ARG: InvalidError,
    libvirt.VIR_ERR_XML_ERROR: InvalidError,
    libvirt.VIR_ERR_XML_DETAIL: InvalidError,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: InvalidError,
    libvirt.VIR_ERR_MIGRATE_UNSAFE: _unsafe,
}


def means_lost(code: int, message: str) -> bool:
    """Whether libvirt's code and words mean that the connection to the host is gone."""
    if code in (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC):
        return True
    words = message.lower()
    return any(lost in words for lost in _LOST_WORDS)


def translate(code: int, message: str, doing: str, host: str, lost: bool = False) -> OpenQrmError:
    """Our error for one of libvirt's.

    `doing` is what was being done, such as "start partition 'web 1'"; `lost`: the connection is known to be gone.
    """
    words = " ".join(message.split()).rstrip(".") or "libvirt gave no reason"
    if lost or means_lost(code, words):
        return _unreachable(f"Lost the connection to host '{host}' while trying to {doing}: {words}")
    sentence = f"Could not {doing} on host '{host}': {words}"
    if "no space left on device" in words.lower():
        return DriverError(f"{sentence}. Free some space on the host's storage, then try again.")
    if "no more available pci slots" in words.lower():
        return DriverError(
            f"{sentence}. Detach a device first, or stop the partition: more slots are made when stopped."
        )
    return _BY_CODE.get(code, DriverError)(sentence)


def code_of(error: libvirt.libvirtError) -> int:
    """libvirt's number for the error; VIR_ERR_INTERNAL_ERROR when it gave none."""
    code = error.get_error_code()
    return libvirt.VIR_ERR_INTERNAL_ERROR if code is None else int(code)
