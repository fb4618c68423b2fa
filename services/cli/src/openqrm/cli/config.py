"""Which server, and with which token: from options, the environment, `openqrm login`, or this machine's own openQRM."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openqrm.cli.errors import CliError


@dataclass(frozen=True)
class Server:
    """Where requests go."""

    url: str
    token: str | None
    source: str
    """Where we know it from, for error messages."""
    ca_file: str | None = None


def config_file() -> Path:
    """Where `openqrm login` keeps what it got."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "openqrm" / "config.json"


def save_login(url: str, token: str, ca_file: str | None) -> Path:
    """Keep a login, readable by its owner only."""
    path = config_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"url": url, "token": token, "ca_file": ca_file}, file)
            file.write("\n")
        beside.replace(path)
    except OSError as error:
        raise CliError(f"The login cannot be kept in {path}: {error.strerror}.") from error
    return path


def forget_login() -> bool:
    """Delete the kept login; whether there was one."""
    try:
        config_file().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CliError(f"{config_file()} cannot be deleted: {error.strerror}.") from error
    return True


def find_server(url: str | None = None, token: str | None = None, ca_file: str | None = None) -> Server:
    """The server to talk to; the first source that names one decides."""
    url = url or os.environ.get("OPENQRM_URL")
    token = token or os.environ.get("OPENQRM_TOKEN")
    ca_file = ca_file or os.environ.get("OPENQRM_CA_FILE")
    known = [found for found in (_login(), _local()) if found]
    if url:
        # A token is sent to the server that it came from, and to no other.
        same = next((found for found in known if found.url == _tidy(url)), None)
        return Server(_tidy(url), token or (same.token if same else None), "the option or the environment",
                      ca_file or (same.ca_file if same else None))  # fmt: skip
    for found in known:
        return Server(found.url, token or found.token, found.source, ca_file or found.ca_file)
    raise CliError(
        "It is not known which openQRM to talk to. On its own machine start it with 'make up'; "
        "from elsewhere use 'openqrm login URL', or set OPENQRM_URL and OPENQRM_TOKEN."
    )


def _tidy(url: str) -> str:
    url = url.strip().rstrip("/")
    url = url if "://" in url else f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise CliError(f"{url!r} is no address of a server: it has to begin with http:// or https://.")
    return url


def _login() -> Server | None:
    path = config_file()
    document = _read(path)
    if document is None:
        return None
    return Server(_tidy(document["url"]), document.get("token"), str(path), document.get("ca_file"))


def state_folders() -> list[Path]:
    """Where an openQRM of this machine can have left word of itself."""
    chosen = os.environ.get("OPENQRM_STATE")
    if chosen:
        return [Path(chosen).expanduser()]
    usual = [Path("/var/lib/openqrm"), Path.home() / ".local" / "state" / "openqrm"]
    return usual if os.geteuid() == 0 else usual[::-1]


def _local() -> Server | None:
    for folder in state_folders():
        path = folder / "client.json"
        document = _read(path)
        if document is None:
            continue
        token_file = Path(document.get("token_file", ""))
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except OSError:
            token = None
        return Server(_tidy(document["url"]), token, str(path))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not isinstance(document.get("url"), str):
            raise ValueError("it names no url")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read: {error}. Delete it, or log in again.") from error
    return document
