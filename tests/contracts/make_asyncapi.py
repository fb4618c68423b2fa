"""Writes docs/asyncapi.json from the contracts.

Run: .venv/bin/python tests/contracts/make_asyncapi.py
"""

import json
from pathlib import Path

from openqrm.bus.asyncapi import make_document

DOCUMENT = Path(__file__).parents[2] / "docs/asyncapi.json"


def render() -> str:
    """The document as it is committed."""
    return json.dumps(make_document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), "utf-8")
    print(DOCUMENT)
