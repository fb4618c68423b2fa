"""The passwords made at the first start, in one file that only its owner can read."""

import json
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from openqrm.embedded.errors import StartError

_FORMAT = 1
_BYTES = 24  # 192 bits; URL-safe, so that it can stand in a DSN and in a configuration file unescaped


class SecretStore:
    """Named random passwords: made when first asked for, the same ever after."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passwords: dict[str, str] = {}

    def load(self) -> None:
        """Read the file; a missing one is an empty store.

        Raises:
            StartError: the file cannot be read or is damaged.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._passwords = {}
            return
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise self._damaged(f"its format is {document['format']!r}, this openQRM knows {_FORMAT}")
            passwords = dict(document["passwords"])
            if not all(isinstance(item, str) and item for pair in passwords.items() for item in pair):
                raise self._damaged("a password in it is empty or no text")
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"it is not the JSON that was written ({error})") from error
        if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
            self._path.chmod(0o600)
        self._passwords = passwords

    def password(self, name: str) -> str:
        """Return the password called `name`, made and stored now if there is none yet."""
        return self.passwords([name])[name]

    def passwords(self, names: Iterable[str]) -> dict[str, str]:
        """Return the passwords of all `names`; new ones are stored in a single write."""
        wanted = list(names)
        missing = [name for name in wanted if name not in self._passwords]
        if missing:
            self._passwords |= {name: secrets.token_urlsafe(_BYTES) for name in missing}
            self._save()
        return {name: self._passwords[name] for name in wanted}

    def _save(self) -> None:
        document = {"format": _FORMAT, "passwords": dict(sorted(self._passwords.items()))}
        try:
            write_private(self._path, json.dumps(document, indent=2) + "\n")
        except OSError as error:
            raise StartError(f"cannot write {self._path}: {error.strerror}") from error

    def _damaged(self, why: str) -> StartError:
        return StartError(
            f"the password file {self._path} cannot be used: {why}; put it back from a backup "
            f"(without it the data in {self._path.parent} stays closed)"
        )


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, mode 0600: after a crash or a power cut it is the old or the new one."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
