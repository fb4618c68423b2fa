"""Prints rows as a table for people, and what there is to say about them below it."""

from collections.abc import Sequence

from harness.row import Row

_HEAD = ("row", "value", "unit", "peer or floor", "ratio", "goal", "")


def figure(number: float | None) -> str:
    """A number with about three digits that mean something."""
    if number is None:
        return ""
    if number == 0:
        return "0"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) < 10 else f"{number:.1f}"


def verdict(row: Row) -> str:
    """The last column."""
    if row.failed:
        return "FAILED"
    return {None: "", True: "met", False: "MISSED"}[row.met]


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{figure(row.peer_value)} {row.peer}".strip()
    ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
    return (row.name, figure(row.value), row.unit, peer, ratio, str(row.goal or ""), verdict(row))


def render(rows: Sequence[Row]) -> str:
    """The whole text: the table, then notes, explanations of missed goals, reasons of failures."""
    lines = [_HEAD, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    right = {1, 4}
    text = [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    for row in rows:
        said = [
            *([f"failed: {row.failed}"] if row.failed else []),
            *([f"not as it should be: {row.flaw}"] if row.flaw else []),
            *([row.note] if row.note else []),
            *([f"where the time goes:\n{row.explanation}"] if row.explanation else []),
        ]
        if said:
            text += ["", f"{row.name}:", *(f"  {line}" for part in said for line in part.splitlines())]
    return "\n".join(text)
