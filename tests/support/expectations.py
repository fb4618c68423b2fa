"""What tests say about the end of an operation."""

from support.control_plane import ControlPlane

from openqrm.contracts.errors import ProblemCode
from openqrm.contracts.operation import OperationView


def refused(ended: OperationView, code: ProblemCode, *words: str) -> None:
    """It was rejected with this code, and the sentence has these words."""
    assert ended.state == "rejected", ended
    assert ended.error is not None
    assert ended.error.code is code, ended.error
    for word in words:
        assert word in ended.error.message, ended.error.message


async def done(plane: ControlPlane, ended: OperationView, *subjects: str) -> None:
    """It succeeded, and these events are told about it, in this order."""
    assert ended.state == "succeeded", ended.error
    await plane.told(ended, *subjects)
