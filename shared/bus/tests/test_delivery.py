"""What becomes of a message after its handler."""

import random

import pytest
from pydantic import BaseModel, ValidationError

from openqrm.bus.delivery import (
    LONGEST_DELAY_SECONDS,
    MAX_TEMPORARY,
    MAX_UNEXPECTED,
    GiveUp,
    Retry,
    backoff,
    judge,
    problem_of,
)
from openqrm.contracts.errors import NotFoundError, ProblemCode, TemporaryError

RNG = random.Random(1)  # noqa: S311 - jitter, not a secret


def validation_error() -> ValidationError:
    """The error of a body that is wrong."""

    class Body(BaseModel):
        size: int

    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"size": "big"})
    return caught.value


def test_a_permanent_error_gives_up_at_once():
    verdict = judge(NotFoundError("No partition web."), 1, RNG)
    assert isinstance(verdict, GiveUp)
    assert verdict.problem.message == "No partition web."


def test_a_body_that_cannot_be_read_gives_up_at_once_and_says_where():
    verdict = judge(validation_error(), 1, RNG)
    assert isinstance(verdict, GiveUp)
    assert verdict.problem.code is ProblemCode.INVALID
    assert verdict.problem.message.startswith("The message cannot be read: size: ")


def test_a_temporary_error_waits_as_long_as_it_wishes():
    verdict = judge(TemporaryError("Busy.", retry_after=4.0), 1, RNG)
    assert isinstance(verdict, Retry)
    assert 4.0 <= verdict.delay_seconds <= 5.0


def test_who_asks_for_a_second_each_time_is_tried_for_hours_all_the_same():
    away = TemporaryError("Away.", retry_after=1.0)
    wishes = [judge(away, deliveries, RNG) for deliveries in range(1, MAX_TEMPORARY)]
    assert sum(wish.delay_seconds for wish in wishes) > 6 * 3600
    assert wishes[0].delay_seconds <= 1.25
    assert max(wish.delay_seconds for wish in wishes) <= LONGEST_DELAY_SECONDS * 1.25


@pytest.mark.parametrize(
    ("error", "limit"), [(TemporaryError("Busy."), MAX_TEMPORARY), (KeyError("x"), MAX_UNEXPECTED)]
)
def test_nothing_is_tried_for_ever(error, limit):
    assert isinstance(judge(error, limit - 1, RNG), Retry)
    assert isinstance(judge(error, limit, RNG), GiveUp)


def test_delays_grow_and_end():
    delays = [backoff(deliveries, RNG) for deliveries in range(1, 200)]
    assert delays[0] < delays[3] < delays[6]
    assert max(delays) <= LONGEST_DELAY_SECONDS * 1.25


def test_an_unexpected_error_says_nothing_of_the_inside():
    problem = problem_of(RuntimeError("password=hunter2"))
    assert problem.code is ProblemCode.INTERNAL
    assert "hunter2" not in problem.message
