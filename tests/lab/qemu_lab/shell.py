"""Running commands and waiting."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from qemu_lab.errors import LabError

_POLL_SECONDS = 0.02
_nothing_happens = threading.Event()


def run(arguments: Sequence[str], text: str | None = None) -> str:
    """Runs a command, `text` on its standard input, and returns its output; LabError if it fails."""
    result = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["no message"]
        raise LabError(f"'{' '.join(arguments[:6])}' failed with status {result.returncode}: {lines[-1]}")
    return result.stdout


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until the condition holds; False if it does not within that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        _nothing_happens.wait(_POLL_SECONDS)
    return True
