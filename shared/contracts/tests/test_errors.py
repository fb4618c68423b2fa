"""Errors as they cross the bus."""

import pytest

from openqrm.contracts import errors
from openqrm.contracts.errors import HTTP_STATUS, OpenQrmError, Problem, ProblemCode, TemporaryError, error_from

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OpenQrmError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_the_bus_and_stays_temporary_or_permanent(kind):
    before = kind("Why.", details={"a": 1}, retry_after=2.0)
    after = error_from(Problem.model_validate_json(before.problem().model_dump_json()))
    assert isinstance(after, TemporaryError) is isinstance(before, TemporaryError)
    assert (after.message, after.code, after.details, after.retry_after) == ("Why.", before.code, {"a": 1}, 2.0)


def test_every_code_has_an_http_status():
    assert set(HTTP_STATUS) == set(ProblemCode)
