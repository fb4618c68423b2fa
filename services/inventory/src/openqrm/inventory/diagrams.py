"""Prints docs/states.md: the state machines, drawn from their tables."""

import sys

from openqrm.inventory.domain import host_states, partition_states


def make_document() -> str:
    """The document, in Markdown with Mermaid diagrams."""
    parts = ["# States", "Made from the transition tables by `python -m openqrm.inventory.diagrams`."]
    for title, module in (("Partitions", partition_states), ("Hosts", host_states)):
        parts += [f"## {title}", f"```mermaid\n{module.diagram()}```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(make_document())
