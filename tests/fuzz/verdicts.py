"""What must have become of each message: an answer, an operation, a dead letter; each with a reason that helps."""

import json
from collections import Counter
from typing import Any

from barrage import Sent
from pydantic import ValidationError

from openqrm.bus.envelope import ERROR_HEADER
from openqrm.contracts.dead_letter import MessageDeadLettered
from openqrm.contracts.errors import Problem, ProblemCode
from openqrm.contracts.message import Kind, Query

SHORTEST_SENTENCE = 20
CONSUMED_BY_INVENTORY = "inventory"
NO_RESPONDERS = b" 503"


def explains(problem: Problem) -> str | None:
    """Why a refusal helps nobody; None when it does."""
    if problem.code is ProblemCode.INTERNAL:
        return f"an unexpected error: {problem.message}"
    if len(problem.message) < SHORTEST_SENTENCE or not problem.message.rstrip().endswith((".", "…", "!")):
        return f"not a sentence: {problem.message!r}"
    if "Traceback" in problem.message or "asyncpg" in problem.message or "pydantic" in problem.message:
        return f"our insides shown: {problem.message!r}"
    return None


def judge_answer(sent: Sent) -> str | None:
    """Of a query: answered as its contract says, or refused with a reason."""
    assert sent.answer is not None
    if not sent.answer.done():
        return "no answer came"
    if sent.answer.exception():
        return f"the connection broke: {sent.answer.exception()}"
    answer = sent.answer.result()
    if answer.headers.startswith(b"NATS/1.0" + NO_RESPONDERS):
        return "nobody answers this subject"
    if ERROR_HEADER.encode() in answer.headers:
        return explains(Problem.model_validate_json(answer.body))
    assert issubclass(sent.model, Query)
    try:
        sent.model.result_type().model_validate_json(answer.body)
    except ValidationError as error:
        return f"the answer is not what the contract says: {error}"
    return None


def is_kept(sent: Sent) -> bool:
    """Whether NATS took it into a stream, for the first time."""
    if sent.answer is None or not sent.answer.done() or sent.answer.exception():
        return False
    word = json.loads(sent.answer.result().body or b"{}")
    return "seq" in word and "error" not in word and not word.get("duplicate")


def is_readable(sent: Sent) -> bool:
    """Whether the body is a message of its subject."""
    try:
        sent.model.model_validate_json(sent.body.data)
    except ValidationError:
        return False
    return True


def letters_by_body(letters: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How many dead letters there are of each subject and body."""
    return Counter((letter["subject"], letter["body"]) for letter in letters)


def forged(sent: list[Sent]) -> set[str]:
    """The ids of dead letters that we ourselves told of: their reasons are ours."""
    return {
        str(MessageDeadLettered.model_validate_json(each.body.data).letter.id)
        for each in sent
        if each.model is MessageDeadLettered and is_readable(each)
    }


def badly_explained(letters: list[dict[str, Any]]) -> list[str]:
    """The dead letters whose reason helps nobody."""
    found = []
    for letter in letters:
        problem = Problem.model_validate(letter["error"])
        if complaint := explains(problem):
            found.append(f"{letter['subject']}: {complaint} ({letter['body'][:200]})")
    return found


def operation_of(sent: Sent) -> str | None:
    """The id of the operation that a readable command asks for."""
    if sent.model.message_kind is not Kind.COMMAND or not is_readable(sent):
        return None
    command = sent.model.model_validate_json(sent.body.data)
    return str(command.operation_id) if "operation_id" in command.model_fields_set else None  # type: ignore[attr-defined]
