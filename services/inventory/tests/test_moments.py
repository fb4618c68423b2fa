"""Times of other clocks, by inventory's."""

from datetime import UTC, datetime, timedelta

import pytest

from openqrm.inventory.domain.moments import BusClock, known_since, seen_at

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.mark.parametrize("wrong", [timedelta(0), -HOUR, HOUR], ids=["right", "behind", "ahead"])
def test_what_counts_is_how_old_it_was_when_it_was_sent(wrong):
    assert seen_at(NOW + wrong - 3 * SECOND, NOW + wrong, NOW) == NOW - 3 * SECOND


def test_a_clock_that_was_set_in_between_gives_no_age():
    assert seen_at(NOW, NOW - HOUR, NOW) == NOW
    assert seen_at(NOW - 48 * HOUR, NOW, NOW) == NOW


def test_a_sender_that_does_not_say_when_it_sent_is_believed():
    assert seen_at(NOW - HOUR, None, NOW) == NOW - HOUR


def test_what_waited_longer_to_be_heard_of_is_not_newer():
    before_it_was_made = seen_at(NOW - SECOND, NOW, NOW)
    made = seen_at(NOW + SECOND, NOW + SECOND, NOW + SECOND)
    assert before_it_was_made < made, "whenever and in whatever order inventory comes to handle them"


def test_what_was_noted_before_the_clock_was_set_back_compares_with_nothing():
    assert known_since(NOW + HOUR, NOW) is None
    assert known_since(NOW + SECOND, NOW) == NOW + SECOND, "another replica's clock may be a little ahead"
    assert known_since(NOW - HOUR, NOW) == NOW - HOUR
    assert known_since(None, NOW) is None


def test_the_clock_of_nats_is_noticed_to_be_set_back():
    clock = BusClock()
    assert clock.now(1, NOW, NOW) == NOW
    assert clock.now(3, NOW + SECOND, NOW) == NOW
    assert clock.now(2, NOW - HOUR, NOW) == NOW, "an old one that was handled late"
    assert clock.now(4, NOW - HOUR, NOW) == NOW - HOUR, "a later one with an earlier time"
    assert clock.now(5, NOW - HOUR + SECOND, NOW) == NOW - HOUR + SECOND
    assert clock.now(2, NOW - HOUR, NOW) == NOW
