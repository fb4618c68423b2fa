"""Writes docs/subjects.md: every subject in one table, from the contracts.

Run: .venv/bin/python tests/architecture/make_subjects.py
"""

from pathlib import Path

from openqrm.contracts.message import Kind, Message, Query, messages_of

DOCUMENT = Path(__file__).parents[2] / "docs/subjects.md"

HEAD = """\
# Subjects

Every message on the bus, generated from `shared/contracts` by `tests/architecture/make_subjects.py`. Payloads and
headers: `asyncapi.json`; an example of each: `shared/contracts/samples`. Roles: `executor` is any executor, `client` a
program from outside. Every role may follow events, whatever their consumers are.
"""

TITLES = {
    Kind.COMMAND: "Commands",
    Kind.ROUTED_COMMAND: "Routed commands",
    Kind.EVENT: "Events",
    Kind.QUERY: "Queries",
    Kind.SAMPLE: "Samples",
    Kind.FRAME: "Frames",
}


def render() -> str:
    """The document as it is committed."""
    parts = [HEAD]
    for kind, title in TITLES.items():
        parts.append(f"\n## {title}\n")
        parts.append("| subject | model | publishers | consumers | what it says |\n|---|---|---|---|---|")
        parts.extend(_row(model) for model in messages_of(kind))
    return "\n".join(parts) + "\n"


def _row(model: type[Message]) -> str:
    name = f"`{model.__name__}`"
    if issubclass(model, Query):
        name += f" → `{model.result_type().__name__}`"
    roles = (", ".join(sorted(roles)) for roles in (model.publishers, model.consumers))
    text = " ".join((model.__doc__ or "").split()).replace("|", "\\|")
    return f"| `{model.subject}` | {name} | {' | '.join(roles)} | {text} |"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), "utf-8")
    print(DOCUMENT)
