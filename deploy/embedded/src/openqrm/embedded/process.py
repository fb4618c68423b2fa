"""A child process with a log, a readiness check, an orderly stop and a call when it dies by itself."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from openqrm.contracts.clock import Clock
from openqrm.embedded.account import Account
from openqrm.embedded.errors import StartError

DeathCallback = Callable[[str], None]
"""Called once with a sentence when a child ends without having been told to."""

_POLL = 0.01  # seconds between two looks at a child that is starting or stopping
_LOG_LIMIT = 8 * 1024 * 1024
# "starting up" is what PostgreSQL tells those who knock too early, not a reason
_GRAVE = re.compile(r"PANIC|FATAL(?!.*is starting up)|\[FTL\]|\berror:|^nats-server:|No space left")


@dataclass(frozen=True)
class ChildSpec:
    """What to run, as whom, and how to end it.

    Attributes:
        name: for sentences, such as "PostgreSQL".
        argv: the program and its arguments.
        log: file that receives the child's output; its predecessor is kept as `.1` when it grew large.
        account: the user to run as; None for our own.
        environment: all of the child's environment, nothing is inherited.
        stop: signals of an orderly stop and the seconds to wait after each; SIGKILL follows the last.
        parent_death: signal that the kernel sends the child when we die without a word (kill -9).
        may_gain_rights: False closes set-uid programs and profile changes to the child and all it starts.
    """

    name: str
    argv: Sequence[str]
    log: Path
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)
    parent_death: signal.Signals = signal.SIGTERM
    may_gain_rights: bool = False


class Child:
    """One run of a `ChildSpec`.

    The child is in a session of its own, so that Ctrl-C at the terminal reaches only us and we end our children in
    the right order. `setpriv` drops the rights and asks the kernel for `parent_death`; it then becomes the program,
    so the process id is the program's. The kernel sends that signal when the *thread* that started the child ends:
    run the event loop in the main thread.
    """

    def __init__(self, spec: ChildSpec, clock: Clock, on_death: DeathCallback | None = None) -> None:
        self.spec = spec
        self._clock = clock
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._log_start = 0
        self._looked_for: dict[bytes, tuple[bool, int]] = {}
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process id while the child runs, else None."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, ready: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Start the child and wait until `ready()` says so; on failure nothing is left running.

        Args:
            ready: asked again and again until it returns True; it may raise StartError to give up.
            within: seconds until a child that lives but is not ready counts as failed.

        Raises:
            StartError: the child cannot be started, ended, or was not ready in time. The sentence has the last line
                of its log that tells something.
        """
        spec = self.spec
        try:
            log = self._open_log()
        except OSError as error:
            raise StartError(f"cannot write the log {spec.log} of {spec.name}: {error.strerror}") from error
        self._stopping = False
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(spec.environment),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"{spec.name} cannot be started: {error.strerror} ({spec.argv[0]})") from error
        finally:
            os.close(log)
        try:
            await self._wait_ready(ready, within)
        except BaseException:
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._watch(self._process), name=f"watch {spec.name}")

    async def stop(self) -> None:
        """End the child with the signals of its spec, in order; harmless when it has ended or never began."""
        self._stopping = True
        process = self._process
        if process is not None:
            for number, patience in (*self.spec.stop, (signal.SIGKILL, 10.0)):
                if process.returncode is not None:
                    break
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), patience)
        if self._watcher is not None:
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self._process = None

    def wrote(self, words: bytes) -> bool:
        """Whether this run's log has these words; each time only what is new is read."""
        found, read_to = self._looked_for.get(words, (False, self._log_start))
        if not found:
            with contextlib.suppress(OSError), self.spec.log.open("rb") as file:
                file.seek(max(read_to - len(words), self._log_start))
                found = words in file.read(_LOG_LIMIT)
                self._looked_for[words] = (found, file.tell())
        return found

    def last_words(self) -> str:
        """The line of the log that best says why this run ended; empty if it wrote nothing."""
        try:
            with self.spec.log.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read(_LOG_LIMIT).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return telling_line(lines)

    def _command(self) -> list[str]:
        setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
        if setpriv is None:
            raise StartError("the program setpriv is missing: install the package util-linux")
        command = [setpriv, f"--pdeathsig={self.spec.parent_death.name.removeprefix('SIG')}"]
        if not self.spec.may_gain_rights:
            command.append("--no-new-privs")
        if self.spec.account is not None:
            command += [f"--reuid={self.spec.account.uid}", f"--regid={self.spec.account.gid}", "--clear-groups"]
        return [*command, "--", *self.spec.argv]

    def _open_log(self) -> int:
        path = self.spec.log
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_LIMIT:
                path.replace(path.with_name(path.name + ".1"))
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._log_start = os.fstat(log).st_size
        return log

    async def _wait_ready(self, ready: Callable[[], Awaitable[bool]], within: float) -> None:
        assert self._process is not None  # noqa: S101 - start() has just made it
        end = self._clock.monotonic() + within
        while True:
            if self._process.returncode is not None:
                raise StartError(self._obituary("ended at its start"))
            if await ready():
                return
            if self._clock.monotonic() > end:
                raise StartError(self._obituary(f"was not ready after {within:.0f} s"))
            await self._clock.sleep(_POLL)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        if self._stopping or self._on_death is None:
            return
        status = process.returncode or 0
        if status < 0:  # it had no time for last words
            name = signal.Signals(-status).name
            self._on_death(f"{self.spec.name} was ended by the signal {name} (log: {self.spec.log})")
        else:
            self._on_death(self._obituary(f"ended unexpectedly (exit status {status})"))

    def _obituary(self, what: str) -> str:
        words = self.last_words()
        return f"{self.spec.name} {what}: {words or 'it wrote no reason'} (log: {self.spec.log})"


def telling_line(lines: Iterable[str]) -> str:
    """Pick the line of a log that says what went wrong: the last grave one, else the last one."""
    written = [line.strip() for line in lines if line.strip()]
    grave = [line for line in written if _GRAVE.search(line)]
    return (grave or written or [""])[-1]


async def end_processes(
    leftovers: Iterable[psutil.Process], signals: Sequence[tuple[int, float]], clock: Clock
) -> None:
    """End processes that are not our children (a killed start left them), with escalating signals.

    Args:
        leftovers: the processes; ones that are gone already are fine.
        signals: signal and the seconds to wait after it, in order.

    Raises:
        StartError: one of them survived everything, or belongs to somebody else.
    """
    living = list(leftovers)
    for number, patience in signals:
        for process in living:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                raise StartError(f"process {process.pid} of an earlier start cannot be ended: no right") from None
        end = clock.monotonic() + patience
        while living := [process for process in living if _lives(process)]:
            if clock.monotonic() > end:
                break
            await clock.sleep(_POLL)
        if not living:
            return
    if living:
        raise StartError(f"process {living[0].pid} of an earlier start does not end: end it by hand (kill -9)")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
