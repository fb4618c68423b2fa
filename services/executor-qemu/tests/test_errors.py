import libvirt
import pytest

from openqrm.contracts.errors import OpenQrmError, PermanentError, ProblemCode, TemporaryError
from openqrm.executor_qemu.errors import translate

CASES = {
    libvirt.VIR_ERR_NO_DOMAIN: ProblemCode.NOT_FOUND,
    libvirt.VIR_ERR_NO_STORAGE_VOL: ProblemCode.NOT_FOUND,
    libvirt.VIR_ERR_OPERATION_INVALID: ProblemCode.WRONG_STATE,
    libvirt.VIR_ERR_OPERATION_ABORTED: ProblemCode.CANCELLED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: ProblemCode.UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: ProblemCode.UNSUPPORTED,
    libvirt.VIR_ERR_INVALID_ARG: ProblemCode.INVALID,
    libvirt.VIR_ERR_AUTH_FAILED: ProblemCode.FORBIDDEN,
    libvirt.VIR_ERR_MIGRATE_UNSAFE: ProblemCode.CONFLICT,
    libvirt.VIR_ERR_INTERNAL_ERROR: ProblemCode.DRIVER_FAILED,
    libvirt.VIR_ERR_OPERATION_FAILED: ProblemCode.DRIVER_FAILED,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: ProblemCode.UNAVAILABLE,
    libvirt.VIR_ERR_RPC: ProblemCode.HOST_FAILED,
    libvirt.VIR_ERR_NO_CONNECT: ProblemCode.HOST_FAILED,
    123456: ProblemCode.DRIVER_FAILED,
}


@pytest.mark.parametrize(("code", "expected"), list(CASES.items()))
def test_each_code_has_its_kind_and_keeps_the_words_of_libvirt(code: int, expected: ProblemCode) -> None:
    error = translate(code, "the words of libvirt", "start partition 'a'", "kvm1")
    assert error.code is expected
    assert "the words of libvirt" in error.message
    assert "start partition 'a'" in error.message
    assert "'kvm1'" in error.message
    temporary = expected in (ProblemCode.UNAVAILABLE, ProblemCode.HOST_FAILED)
    assert isinstance(error, TemporaryError if temporary else PermanentError)


@pytest.mark.parametrize(
    "words",
    [
        "internal error: client socket is closed",
        "End of file while reading data: Input/output error",
        "Cannot recv data: Connection reset by peer",
    ],
)
def test_a_lost_connection_is_temporary_whatever_its_code(words: str) -> None:
    error = translate(libvirt.VIR_ERR_INTERNAL_ERROR, words, "stop", "kvm1")
    assert error.code is ProblemCode.HOST_FAILED
    assert error.retry_after


def test_a_call_that_failed_because_the_connection_was_lost_is_temporary() -> None:
    assert translate(libvirt.VIR_ERR_OPERATION_FAILED, "x", "stop", "kvm1", lost=True).code is ProblemCode.HOST_FAILED


def test_a_full_disk_says_what_to_do() -> None:
    error: OpenQrmError = translate(libvirt.VIR_ERR_SYSTEM_ERROR, "write: No space left on device", "copy", "kvm1")
    assert "Free some space" in error.message
