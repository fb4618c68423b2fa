"""The state folder: everything an embedded openQRM keeps, usable by one openQRM at a time."""

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from openqrm.embedded.account import Account, give_to
from openqrm.embedded.errors import StartError
from openqrm.embedded.secret_store import SecretStore, write_private

__all__ = ["StartError", "StateFolder", "default_state_folder"]

MIB = 1024 * 1024
REFUSE_BELOW = 512 * MIB
WARN_BELOW = 2048 * MIB
_VERSION = 1
_OWN_NAMES = frozenset({"version", "lock", "secrets.json", "secrets.json.new", "version.new", "lost+found"})


def default_state_folder() -> Path:
    """OPENQRM_STATE if set, else /var/lib/openqrm for root and ~/.local/state/openqrm for anybody else."""
    if chosen := os.environ.get("OPENQRM_STATE"):
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/openqrm")
    return Path("~/.local/state/openqrm").expanduser().absolute()


class StateFolder:
    """A state folder, checked and locked from `open` to `close` (or in a `with`).

    Attributes:
        path: the folder itself; 0711 for root (the hypervisor's user passes through it to the images), else 0700.
        secrets: the passwords made at the first start.
        warnings: sentences to show that do not prevent the start; filled by `open`.
    """

    def __init__(
        self,
        path: Path,
        account: Account | None = None,
        *,
        refuse_below: int = REFUSE_BELOW,
        warn_below: int = WARN_BELOW,
    ) -> None:
        """Describe the folder; nothing is touched yet. Limits are in bytes of free disk space."""
        self.path = path.absolute()
        self.secrets = SecretStore(self.path / "secrets.json")
        self.warnings: list[str] = []
        self._account = account
        self._refuse_below = refuse_below
        self._warn_below = warn_below
        self._lock: int | None = None

    @property
    def postgres(self) -> Path:
        """PostgreSQL's folder, 0700, owned by the account that PostgreSQL runs as."""
        return self.path / "postgres"

    @property
    def nats(self) -> Path:
        """The folder of NATS, 0700, owned by the account that NATS runs as."""
        return self.path / "nats"

    @property
    def libvirt(self) -> Path:
        """Process ids and logs of a libvirtd that we started, 0700."""
        return self.path / "libvirt"

    @property
    def images(self) -> Path:
        """Images and volumes; 0711 for root, because QEMU runs as a user of its own."""
        return self.path / "images"

    def open(self) -> None:
        """Make or check the folder, take its lock, read its secrets.

        Raises:
            StartError: the folder is in use, damaged, foreign, not writable, or its disk is full.
        """
        self.warnings = []
        self._make()
        self._check_ownership()
        self._check_contents()
        self._take_lock()
        try:
            self._check_disk()
            self._check_version()
            self._make_parts()
            self.secrets.load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=self._outer_mode, parents=True, exist_ok=True)
        except FileExistsError:
            raise StartError(f"{self.path} is a file, not a folder: move it away or set OPENQRM_STATE") from None
        except OSError as error:
            raise StartError(
                f"cannot make the state folder {self.path}: {error.strerror}; "
                "set OPENQRM_STATE to a folder where this user may write"
            ) from error

    @property
    def _outer_mode(self) -> int:
        return 0o711 if os.geteuid() == 0 else 0o700

    def _check_ownership(self) -> None:
        status = self.path.stat()
        if status.st_uid != os.geteuid():
            raise StartError(
                f"the state folder {self.path} belongs to user {status.st_uid}, this is user {os.geteuid()}: "
                "start openQRM as its owner, or set OPENQRM_STATE to another folder"
            )
        try:
            if stat.S_IMODE(status.st_mode) != self._outer_mode:
                self.path.chmod(self._outer_mode)
        except OSError as error:
            raise self._not_writable(error) from error
        if self._account is not None:
            for parent in self.path.parents:
                if not parent.stat().st_mode & stat.S_IXOTH:
                    raise StartError(
                        f"the state folder {self.path} lies below {parent}, which is closed to the user "
                        f"{self._account.name!r} that PostgreSQL and NATS run as: set OPENQRM_STATE to another "
                        f"folder, or open it (chmod o+x {parent})"
                    )

    def _check_contents(self) -> None:
        """A folder that has something else in it was named by mistake: leave it alone."""
        try:
            names = {entry.name for entry in self.path.iterdir()}
        except OSError as error:
            raise self._not_writable(error) from error
        if "version" not in names and (foreign := names - _OWN_NAMES):
            raise StartError(
                f"{self.path} holds something else ({min(foreign)}, …) and is no state folder of openQRM: "
                "name an empty or a new folder in OPENQRM_STATE"
            )

    def _take_lock(self) -> None:
        path = self.path / "lock"
        try:
            # Python makes it close-on-exec: no child that outlives us can hold the lock
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StartError(
                f"openQRM already runs on {self.path} (process {holder}): stop that one first, "
                "or set OPENQRM_STATE to another folder"
            ) from None
        except OSError as error:
            os.close(lock)
            raise StartError(f"cannot lock {path}: {error.strerror}") from error
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise self._not_writable(error) from error

    def _check_disk(self) -> None:
        status = os.statvfs(self.path)
        free = status.f_bavail * status.f_frsize
        if free < self._refuse_below:
            raise StartError(
                f"the disk of {self.path} is full: {free // MIB} MiB are free, openQRM needs "
                f"{self._refuse_below // MIB} MiB; make room or set OPENQRM_STATE to another disk"
            )
        if free < self._warn_below:
            self.warnings.append(f"the disk of {self.path} is nearly full: {free // MIB} MiB are free")

    def _check_version(self) -> None:
        path = self.path / "version"
        try:
            text = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            try:
                write_private(path, f"{_VERSION}\n")
            except OSError as error:
                raise self._not_writable(error) from error
            return
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"cannot read {path}: {error}") from error
        if not text.isdecimal():
            raise StartError(
                f"the file {path} is damaged: it should hold {_VERSION} and holds {text[:20]!r}; "
                f"if the rest of the folder is intact, repair it with: echo {_VERSION} > {path}"
            )
        if int(text) > _VERSION:
            raise StartError(
                f"{self.path} was written by a newer openQRM (format {text}, this one knows {_VERSION}): "
                "bring openQRM up to date, or set OPENQRM_STATE to another folder"
            )

    def _make_parts(self) -> None:
        parts = {self.postgres: self._account, self.nats: self._account, self.libvirt: None, self.images: None}
        try:
            for part, owner in parts.items():
                mode = self._outer_mode if part == self.images else 0o700
                part.mkdir(mode=mode, exist_ok=True)
                part.chmod(mode)
                give_to(part, owner)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> StartError:
        return StartError(f"cannot write in the state folder {self.path}: {error.strerror} ({error.filename})")
