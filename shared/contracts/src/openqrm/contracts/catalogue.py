"""Loads every module that registers messages; a new noun's module is added here."""

from importlib import import_module

NOUNS = (
    "bus",
    "console",
    "dead_letter",
    "execution",
    "host",
    "image",
    "mac",
    "network",
    "operation",
    "partition",
    "placement",
    "resource",
    "span",
    "technology",
)


def load() -> None:
    """Register all messages; harmless when repeated."""
    for noun in NOUNS:
        import_module(f"openqrm.contracts.{noun}")
