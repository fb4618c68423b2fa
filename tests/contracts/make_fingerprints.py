"""Writes shared/contracts/fingerprints.json: the version and the shape of every message, locked.

Run: .venv/bin/python tests/contracts/make_fingerprints.py [--unreleased]
A shape that changed without a higher version is refused, since programs of the old shape are running somewhere;
`--unreleased` takes it nevertheless, for messages that nobody has used yet.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from openqrm.contracts.message import Message, Query, all_messages

LOCK = Path(__file__).parents[2] / "shared/contracts/fingerprints.json"

WORDING = {"title", "description", "examples"}
"""What may change without a new version: it is for readers."""


def fingerprint(model: type[Message]) -> str:
    """A hash of what programs depend on: the schema without its wording, the kind, and a query's answer."""
    shape: dict[str, Any] = {"kind": model.message_kind.value, "message": _shape(model.model_json_schema())}
    if issubclass(model, Query):
        shape["answer"] = _shape(model.result_type().model_json_schema(mode="serialization"))
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def locked() -> dict[str, dict[str, Any]]:
    """Version and fingerprint by subject, as they were locked; empty before the first time."""
    found: dict[str, dict[str, Any]] = json.loads(LOCK.read_text("utf-8")) if LOCK.exists() else {}
    return found


def current() -> dict[str, dict[str, Any]]:
    """Version and fingerprint by subject, as the contracts are now."""
    return {
        subject: {"version": model.schema_version, "fingerprint": fingerprint(model)}
        for subject, model in all_messages().items()
    }


def changed_without_version() -> list[str]:
    """Subjects whose shape differs from the lock while their version is no higher."""
    before = locked()
    return [
        subject
        for subject, now in current().items()
        if subject in before
        and now["fingerprint"] != before[subject]["fingerprint"]
        and now["version"] <= before[subject]["version"]
    ]


def _shape(schema: Any, is_names: bool = False) -> Any:
    """The schema without wording. Below `properties` and `$defs` the keys are names and all stay."""
    if isinstance(schema, dict):
        return {
            key: _shape(value, key in ("properties", "$defs") and not is_names)
            for key, value in schema.items()
            if is_names or key not in WORDING
        }
    if isinstance(schema, list):
        return [_shape(item) for item in schema]
    return schema


def main() -> None:
    """Write the lock, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unreleased", action="store_true", help="lock changed shapes under their old version")
    if not parser.parse_args().unreleased and (changed := changed_without_version()):
        sys.exit(f"Raise version= in the class arguments of: {', '.join(changed)}. Then run this again.")
    LOCK.write_text(json.dumps(current(), indent=2) + "\n", "utf-8")
    print(f"{len(current())} messages locked in {LOCK}")


if __name__ == "__main__":
    main()
