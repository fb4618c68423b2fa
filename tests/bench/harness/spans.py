"""What the spans of operations say: when each step began after the request, and how long it took."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any


def waterfall(traces: Sequence[Sequence[dict[str, Any]]]) -> str:
    """The steps of several operations of one kind, as medians in ms; the same step twice is told apart."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for spans in traces:
        began = min(span["start_ns"] for span in spans)
        times: dict[str, int] = defaultdict(int)
        for span in spans:
            name = f"{span['service']}: {span['name']}"
            times[name] += 1
            label = name if times[name] == 1 else f"{name} ({times[name]})"
            seen[label].append(((span["start_ns"] - began) / 1e6, (span["end_ns"] - span["start_ns"]) / 1e6))
    lines = sorted(
        (statistics.median(at for at, _ in found), statistics.median(took for _, took in found), label)
        for label, found in seen.items()
    )
    return "spans, medians: begun at, took (ms)\n" + "\n".join(
        f"{at:7.1f} {took:7.1f}  {what}" for at, took, what in lines
    )
