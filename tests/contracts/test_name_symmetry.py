"""One name all the way: subject, model, handler, test.

`partition.start` is StartPartition, handled by `start_partition(…: StartPartition)`, tested by `test_start_partition…`.
"""

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

from openqrm.contracts.message import EXECUTOR, INVENTORY, SCHEDULER, Kind, Message, all_messages, messages_of

ROOT = Path(__file__).parents[2]

HOME = {
    INVENTORY: ROOT / "services/inventory",
    SCHEDULER: ROOT / "services/scheduler",
    EXECUTOR: ROOT / "shared/driver-sdk",
}
"""Where a role's handlers are; executors share theirs."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def snake(name: str) -> str:
    """StartPartition as start_partition."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def plural(noun: str) -> str:
    """technology as technologies."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def expected_names(model: type[Message]) -> set[str]:
    """What a model of this subject may be called, in snake case."""
    noun, rest = model.subject.split(".")[:2]
    whole = {rest} if "_" in rest else set()  # partition.attach_nic says its object itself
    match model.message_kind:
        case Kind.COMMAND:
            return whole or {f"{rest}_{noun}"}
        case Kind.ROUTED_COMMAND:
            return {f"execute_{name}" for name in whole or {f"{rest}_{noun}"}}
        case Kind.QUERY:
            return whole or {f"{rest}_{noun}", f"{rest}_{plural(noun)}"}
        case _:
            return whole | {f"{noun}_{rest}", f"{plural(noun)}_{rest}"}


@functools.cache
def functions(folder: Path) -> dict[str, list[Function]]:
    """Every function and method below a folder by its name."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            if isinstance(node, Function):
                found[node.name].append(node)
    return found


def takes(function: Function, model: type[Message]) -> bool:
    """Whether one of a function's parameters is of the model's type."""
    arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return any(model.__name__ in ast.dump(argument.annotation) for argument in arguments if argument.annotation)


def handled() -> list:
    """Model and role of everything that somebody here has to handle or answer."""
    return [
        pytest.param(model, role, id=f"{model.subject}-{role}")
        for model in messages_of(Kind.COMMAND, Kind.QUERY, Kind.EVENT)
        for role in sorted(model.consumers)
        if role in HOME
    ]


@pytest.mark.parametrize("subject", all_messages())
def test_a_model_is_called_after_its_subject(subject):
    model = all_messages()[subject]
    assert snake(model.__name__) in expected_names(model)


@pytest.mark.parametrize("model", list(messages_of(Kind.ROUTED_COMMAND)), ids=lambda model: model.__name__)
def test_a_routed_command_carries_out_a_command(model):
    command = all_messages().get(model.subject.split(".{")[0])
    assert command is not None
    assert model.__name__ == f"Execute{command.__name__}"


@pytest.mark.parametrize(("model", "role"), handled())
def test_a_message_has_one_handler_of_its_name(model, role):
    folder = HOME[role] / "src"
    named = functions(folder)[snake(model.__name__)]
    handlers = [function for function in named if takes(function, model)]
    assert len(handlers) == 1, (
        f"{folder.relative_to(ROOT)} needs exactly one function "
        f"{snake(model.__name__)}(…: {model.__name__}); it has {len(handlers)}."
    )


@pytest.mark.parametrize(
    ("model", "role"), [each for each in handled() if each.values[0].message_kind in (Kind.COMMAND, Kind.QUERY)]
)
def test_a_handler_has_a_test_of_its_name(model, role):
    folder = HOME[role] / "tests"
    wanted = f"test_{snake(model.__name__)}"
    assert any(name == wanted or name.startswith(f"{wanted}_") for name in functions(folder)), (
        f"{folder.relative_to(ROOT)} needs a test {wanted} or {wanted}_…"
    )
