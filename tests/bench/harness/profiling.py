"""Where Python processes spend their time: py-spy looks into them from outside, while they go on."""

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

PY_SPY = Path(__file__).resolve().parents[3] / ".venv/bin/py-spy"
RATE = 97
"""Samples per second."""
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_OURS = "/src/openqrm/"
_SHOWN = 8


async def profile(pids: Mapping[str, int], seconds: float) -> str:
    """Look into processes for some seconds; one paragraph for each, the busiest first."""
    summaries = await asyncio.gather(*(_record(name, pid, seconds) for name, pid in pids.items()))
    return "\n".join(text for _, text in sorted(summaries, reverse=True))


async def _record(name: str, pid: int, seconds: float) -> tuple[float, str]:
    target = Path("/var/tmp") / f"openqrm-bench-profile-{os.getpid()}-{pid}"  # noqa: S108 - removed at once
    command = [str(PY_SPY), "record", "--pid", str(pid), "--format", "raw", "--nolineno", "--full-filenames",
               "--rate", str(RATE), "--duration", f"{max(1, round(seconds))}", "--output", str(target)]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    try:
        stacks = target.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return 0.0, f"{name}: no profile ({output.decode(errors='replace').strip()[-200:]})"
    finally:
        target.unlink(missing_ok=True)
    return summarise(name, stacks, RATE * max(1, round(seconds)))


def summarise(name: str, stacks: list[str], possible: int) -> tuple[float, str]:
    """Busy share and text of raw py-spy output: own time by library, and time below functions of ours."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        number = int(count)
        parsed = [match for frame in frames.split(";") if (match := _FRAME.match(frame))]
        if not parsed:
            own["other"] += number
            continue
        if parsed[-1]["file"].endswith("/selectors.py"):
            continue  # waits for something to do
        own[library(parsed[-1]["file"])] += number
        ours = {f"{_short(match['file'])}:{match['function']}" for match in parsed if _OURS in match["file"]}
        below.update(dict.fromkeys(ours, number))
    total = sum(own.values())
    if not total:
        return 0.0, f"{name}: idle"
    busy = total / possible
    libraries = ", ".join(f"{word} {n / total:.0%}" for word, n in own.most_common(_SHOWN))
    functions = ", ".join(f"{word} {n / total:.0%}" for word, n in below.most_common(2 * _SHOWN) if n / total < 0.95)
    return busy, f"{name}: busy {busy:.0%} of a core\n  own time: {libraries}\n  with what they call: {functions}"


def library(file: str) -> str:
    """Whose code a file is: a package of ours, a library, or Python itself."""
    if _OURS in file:
        return "openqrm." + _short(file).split("/")[0]
    for place in ("site-packages/", f"python{sys.version_info[0]}.{sys.version_info[1]}/"):
        if place in file:
            return file.rpartition(place)[2].split("/")[0].removesuffix(".py")
    return file


def _short(file: str) -> str:
    return file.rpartition(_OURS)[2].removesuffix(".py")
