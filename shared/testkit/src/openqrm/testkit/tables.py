"""Reads the tables of a Markdown page, for tests whose expectations are written down for people."""

import re
from pathlib import Path


def tables_of(page: Path) -> dict[str, list[dict[str, str]]]:
    """Each table by the heading above it: one dict per row, by the words of its first line; code marks left out."""
    found: dict[str, list[dict[str, str]]] = {}
    heading, columns = "", list[str]()
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading, columns = line.lstrip("# "), []
        elif not line.startswith("|"):
            columns = []
        elif not columns:
            columns = _cells(line)
            found.setdefault(heading, [])
        elif not re.fullmatch(r"[|:\s-]+", line):
            found[heading].append(dict(zip(columns, _cells(line), strict=True)))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
