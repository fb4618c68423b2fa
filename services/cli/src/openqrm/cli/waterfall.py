"""A trace as a waterfall: who did what for one request, and when."""

from collections import defaultdict
from collections.abc import Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from openqrm.cli.client import Json

_WIDTH = 40
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red")


def waterfall(trace: Json, width: int = _WIDTH) -> Table:
    """The spans as a tree, each with its time as a bar."""
    spans = trace["spans"]
    begin = min(span["start_ns"] for span in spans)
    whole = max(max(span["end_ns"] for span in spans) - begin, 1)
    services = sorted({span["service"] for span in spans})
    colours = {service: _COLOURS[index % len(_COLOURS)] for index, service in enumerate(services)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("SERVICE")
    table.add_column("WHAT", overflow="fold")
    table.add_column("AT ms", justify="right")
    table.add_column("TOOK ms", justify="right")
    table.add_column(f"0 … {whole / 1e6:.1f} ms", no_wrap=True)
    for depth, span in _tree(spans):
        left = int((span["start_ns"] - begin) / whole * width)
        length = max(1, round((span["end_ns"] - span["start_ns"]) / whole * width))
        left = min(left, width - 1)
        colour = colours[span["service"]]
        name = "  " * depth + escape(span["name"])
        if span["error"]:
            name += f" [bold red]✗ {escape(span['error'])}[/]"
        table.add_row(
            f"[{colour}]{escape(span['service'])}[/]",
            name,
            f"{(span['start_ns'] - begin) / 1e6:.1f}",
            f"{(span['end_ns'] - span['start_ns']) / 1e6:.1f}",
            " " * left + f"[{colour}]{'█' * min(length, width - left)}[/]",
        )
    return table


def _tree(spans: list[Json]) -> Iterator[tuple[int, Json]]:
    """Parents before children, by start; a span whose parent is unknown stands at the left."""
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[Json]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span["start_ns"]):
        children[span["parent_id"] if span["parent_id"] in known else None].append(span)
    waiting = [(0, span) for span in reversed(children[None])]
    while waiting:
        depth, span = waiting.pop()
        yield depth, span
        waiting += [(depth + 1, child) for child in reversed(children[span["span_id"]])]
