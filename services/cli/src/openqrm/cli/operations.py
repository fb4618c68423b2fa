"""Waiting for an operation's end."""

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from openqrm.cli.client import FINAL_STATES, Client, Json
from openqrm.cli.output import Output

POLL_SECONDS = 1
"""The server answers at once when the operation ends; meanwhile the bar moves once in this while."""


def follow(client: Client, operation: Json, output: Output) -> Json:
    """The operation when it has ended. Interrupting this ends the waiting, not the operation."""
    if operation["state"] in FINAL_STATES:
        return operation
    if not output.messages.is_terminal:
        while operation["state"] not in FINAL_STATES:
            operation = client.get(f"operations/{operation['id']}", wait=20)
        return operation
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}", markup=False, style="dim"),
    )
    try:
        with Progress(*columns, console=output.messages, transient=True) as progress:
            description = f"{operation['verb']} {operation['target_name']}"
            task = progress.add_task(description, total=100, step=operation["step"])
            while operation["state"] not in FINAL_STATES:
                operation = client.get(f"operations/{operation['id']}", wait=POLL_SECONDS)
                step = operation["step"] or operation["state"]
                progress.update(task, completed=operation["progress"], step=step)
    except KeyboardInterrupt:
        output.say(f"The operation goes on. Follow it with: openqrm operation wait {operation['id']}")
        raise
    return operation
