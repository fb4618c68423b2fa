"""Programs that come in wheels, put where the account that runs them can reach them."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from openqrm.embedded.account import Account
from openqrm.embedded.errors import StartError

CACHE = Path("/var/cache/openqrm")
_UNUSED = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "__pycache__")


async def works(program: Path, account: Account | None) -> bool:
    """Tell whether `program --version` runs and says its name, as the account if there is one."""
    command = [str(program), "--version"]
    if account is not None:
        command = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--", *command]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    except OSError:
        return False
    output, _ = await process.communicate()
    # an empty file "runs", as a shell script of no lines: the name is the proof
    return process.returncode == 0 and output.startswith(program.name.encode())


async def reachable(
    label: str, parts: Mapping[str, Path], programs: Sequence[str], account: Account | None, cache: Path = CACHE
) -> Path:
    """Return a folder with `parts` in it that the account can read.

    The Python environment often lies below a closed folder (/root). For an account of its own the programs are
    therefore copied once to `cache`, owned by root, and used from there; without one they are used where they are.

    Args:
        label: names the copy; it must change with the programs' version.
        parts: path below the returned folder -> file or folder to copy.
        programs: those of the parts' programs that must run, as paths below the returned folder.
        account: the user that will run them, None for our own.
        cache: where copies are kept.

    Raises:
        StartError: the copy cannot be made or does not run.
    """
    target = cache / label
    if all([await works(target / program, account) for program in programs]):
        return target
    try:
        await asyncio.to_thread(_copy, parts, target)
    except OSError as error:
        raise StartError(f"cannot copy programs to {target}: {error.strerror or error}") from error
    for program in programs:
        if not await works(target / program, account):
            owner = account.name if account else "this user"
            raise StartError(f"{target / program} does not run as {owner}: is {cache} mounted noexec, or closed?")
    return target


def _copy(parts: Mapping[str, Path], target: Path) -> None:
    """Make the copy beside its place and move it there as a whole; half a copy is never seen."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for below, source in parts.items():
            destination = work / below
            destination.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, destination, ignore=_UNUSED, symlinks=True)
            else:
                shutil.copy2(source, destination)
        for folder, _, files in os.walk(work):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        if target.exists():
            target.rename(work.with_name(work.name + "-old"))
        try:
            work.rename(target)
        except OSError:
            if not target.exists():  # else another start was quicker, with the same programs
                raise
    finally:
        for leftover in (work, work.with_name(work.name + "-old")):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(leftover)
