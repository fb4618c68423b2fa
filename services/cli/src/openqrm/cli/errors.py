"""Errors that a person reads: one sentence, and what to do next."""

from collections.abc import Mapping
from typing import Any


class CliError(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class ProblemError(CliError):
    """What the server refused; `document` is its problem document."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(_sentences(document))
        self.status = status
        self.document = document


def _sentences(document: Mapping[str, Any]) -> str:
    detail = str(document.get("detail") or document.get("title") or "The server refused this and did not say why.")
    fields = document.get("fields") or ()
    if len(fields) < 2:
        return detail
    return "\n".join(["These fields cannot be accepted:", *(f"  {f['field']}: {f['message']}" for f in fields)])
