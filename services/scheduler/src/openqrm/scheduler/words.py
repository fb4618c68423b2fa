"""How numbers and lists read in reasons."""

from collections.abc import Iterable


def number(value: float) -> str:
    """A number for people: thousands apart, no more digits than it has."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def listing(words: Iterable[str]) -> str:
    """Words in order with commas and an `and`."""
    *firsts, last = sorted(words)
    return f"{', '.join(firsts)} and {last}" if firsts else last


def plural(noun: str, count: int) -> str:
    """The noun, with an s unless there is one of it."""
    return noun if count == 1 else f"{noun}s"
