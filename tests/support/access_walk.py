"""Walks docs/access.md on a running NATS: every subject and every stream, as one user."""

import re
from pathlib import Path

from support.raw_nats import RawNats

from openqrm.testkit.tables import tables_of

TABLES = tables_of(Path(__file__).parents[2] / "docs/access.md")
SUBJECTS = {row["subject"]: row for row in TABLES["Subjects"]}
STREAMS = {row["stream"]: row for row in TABLES["Streams"]}
OWNERS = {"COMMANDS": "inventory", "EVENTS": "inventory", "EXECUTIONS": "executor-{technology}"}
"""Whose durable consumer a stream has, besides those of followers."""


async def mistakes(user: RawNats, role: str, technology: str, *, in_use: bool = False) -> list[str]:
    """Where the server lets a user do other things than the page says. `technology`: the one of the executors.

    `in_use`: services work there, so that nothing is asked of JetStream that would be granted: it could do harm.
    """
    publish = {_concrete(subject, technology): "P" in row[role] for subject, row in SUBJECTS.items()}
    requests = _requests(user.user, role, technology)
    publish |= {subject: may for subject, may in requests.items() if not (may and in_use)}
    subscribe = {_pattern(subject, technology): "S" in row[role] for subject, row in SUBJECTS.items()}
    subscribe |= {"_INBOX_somebody-else.>": False, ">": False, "*.*": False, "$JS.ACK.>": False, "$SYS.>": False}
    if role == "executor":
        foreign = [subject for subject in SUBJECTS if "{technology}" in subject]
        publish |= {_concrete(subject, "foreign"): False for subject in foreign}
        subscribe |= {_pattern(subject, "foreign"): False for subject in foreign}
    for subject in publish:
        await user.publish(subject, None, b"")
    for subject in subscribe:
        await user.subscribe(subject)
    await user.flush()
    found = []
    for verb, word, may in (("publish", "Publish", publish), ("subscribe to", "Subscription", subscribe)):
        refused = user.refused(word)
        for subject, allowed in may.items():
            if allowed == (subject in refused):
                found.append(
                    f"{user.user} may {'not ' if allowed else ''}{verb} {subject}; docs/access.md says otherwise"
                )
    return found


def _requests(user: str, role: str, technology: str) -> dict[str, bool]:
    """What is asked of JetStream, and whether the user may. The consumers that are named do not exist, or are empty."""
    may: dict[str, bool] = {}
    for stream, row in STREAMS.items():
        words = set(row[role].split(", "))
        mine, other = f"{user}-of-a-test", "somebody-else"
        may[f"$JS.API.STREAM.INFO.{stream}"] = bool(words & {"follow", "look"})
        may[f"$JS.API.CONSUMER.CREATE.{stream}.{mine}"] = "follow" in words
        may[f"$JS.API.CONSUMER.DELETE.{stream}.{mine}"] = "follow" in words
        may[f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{mine}"] = False
        may[f"$JS.API.STREAM.PURGE.{stream}"] = "purge" in words
        may |= {f"$JS.API.STREAM.{verb}.{stream}": False for verb in ("CREATE", "UPDATE", "DELETE", "RESTORE")}
        may |= {f"$JS.API.STREAM.MSG.{verb}.{stream}": False for verb in ("DELETE", "GET")}
        if stream in OWNERS:
            owner = OWNERS[stream].format(technology=technology)
            takes = "take" in words
            may[f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{owner}"] = takes
            may[f"$JS.ACK.{stream}.{owner}.1.1.1.1.1"] = takes
            may[f"$JS.API.CONSUMER.INFO.{stream}.{owner}"] = takes
            # Who takes from a stream that it also follows could make its own consumer anew; nobody else could.
            may[f"$JS.API.CONSUMER.DELETE.{stream}.{owner}"] = takes and "follow" in words
            may[f"$JS.ACK.{stream}.{other}.1.1.1.1.1"] = False
        if "follow" not in words:
            may[f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{other}"] = False
    may["_INBOX_somebody-else.1"] = False
    return may


def _concrete(subject: str, technology: str) -> str:
    """One that a message could go to, and that names nothing that exists."""
    return subject.format(technology=technology, host="none", session="none", trace="none")


def _pattern(subject: str, technology: str) -> str:
    """What a service subscribes to."""
    return re.sub(r"\{\w+\}", "*", subject.replace("{technology}", technology))
