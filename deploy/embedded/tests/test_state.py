"""The state folder: one openQRM at a time, and one clear sentence for everything that is wrong with it."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from openqrm.embedded.account import Account
from openqrm.embedded.state import StartError, StateFolder, default_state_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENQRM_STATE", "/srv/other")
    assert default_state_folder() == Path("/srv/other")


def test_root_and_others_have_different_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENQRM_STATE", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_folder() == Path("/var/lib/openqrm")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_state_folder() == Path("/home/someone/.local/state/openqrm")


def test_everything_secret_is_closed_to_others(place: Path) -> None:
    with StateFolder(place / "state") as state:
        state.secrets.password("nats.gateway")
        assert mode(state.path) & 0o066 == 0
        for closed in (state.postgres, state.nats, state.libvirt):
            assert mode(closed) == 0o700
        for file in ("secrets.json", "version", "lock"):
            assert mode(state.path / file) == 0o600


def test_passwords_are_made_once(place: Path) -> None:
    with StateFolder(place / "state") as state:
        first = state.secrets.passwords(["postgres.superuser", "nats.gateway"])
        assert len(set(first.values())) == 2
    with StateFolder(place / "state") as state:
        assert state.secrets.passwords(first) == first


def test_a_second_start_is_told_who_runs(place: Path) -> None:
    with (
        StateFolder(place / "state"),
        pytest.raises(StartError, match=rf"already runs on .*state \(process {os.getpid()}\): stop that one"),
    ):
        StateFolder(place / "state").open()
    StateFolder(place / "state").open()


def test_a_child_that_survives_does_not_hold_the_lock(place: Path) -> None:
    with StateFolder(place / "state"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with StateFolder(place / "state"):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', '{"format": 1, "passwords": {"a": ""}}', "[1]"])
def test_a_damaged_password_file_is_named(place: Path, content: str) -> None:
    with StateFolder(place / "state") as state:
        state.secrets.password("a")
    (place / "state" / "secrets.json").write_text(content)
    with pytest.raises(StartError, match=r"password file .*secrets\.json cannot be used: .* from a backup"):
        StateFolder(place / "state").open()
    assert (place / "state" / "secrets.json").read_text() == content, "never overwritten"


def test_an_open_password_file_is_closed_again(place: Path) -> None:
    with StateFolder(place / "state") as state:
        state.secrets.password("a")
    (place / "state" / "secrets.json").chmod(0o644)
    with StateFolder(place / "state"):
        assert mode(place / "state" / "secrets.json") == 0o600


def test_a_crash_while_writing_passwords_leaves_the_old_ones(place: Path) -> None:
    with StateFolder(place / "state") as state:
        state.secrets.password("a")
        (place / "state" / "secrets.json.new").write_text("half")
        state.secrets.password("b")
    assert set(json.loads((place / "state" / "secrets.json").read_text())["passwords"]) == {"a", "b"}


def test_a_newer_format_is_refused(place: Path) -> None:
    with StateFolder(place / "state"):
        pass
    (place / "state" / "version").write_text("99\n")
    with pytest.raises(StartError, match="written by a newer openQRM"):
        StateFolder(place / "state").open()


def test_a_damaged_version_says_how_to_repair(place: Path) -> None:
    with StateFolder(place / "state"):
        pass
    (place / "state" / "version").write_text("\0\0")
    with pytest.raises(StartError, match=r"is damaged: .* repair it with: echo 1 >"):
        StateFolder(place / "state").open()


def test_a_folder_with_other_things_is_left_alone(place: Path) -> None:
    (place / "letter.txt").write_text("dear")
    with pytest.raises(StartError, match=r"holds something else \(letter\.txt"):
        StateFolder(place).open()
    assert [entry.name for entry in place.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder(place: Path) -> None:
    (place / "state").write_text("")
    with pytest.raises(StartError, match="is a file, not a folder"):
        StateFolder(place / "state").open()


def test_somebody_elses_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(StartError, match=f"belongs to user {real}, this is user {real + 1}"):
        StateFolder(place).open()


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(StartError, match="cannot make the state folder /proc/openqrm"):
        StateFolder(Path("/proc/openqrm")).open()


def test_a_path_closed_to_the_service_account(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    state = StateFolder(place / "closed" / "state", Account("openqrm", os.getuid(), os.getgid()))
    with pytest.raises(StartError, match=r"lies below .*closed, which is closed to the user 'openqrm'"):
        state.open()


def test_little_free_space_is_refused_or_warned_about(place: Path) -> None:
    with pytest.raises(StartError, match=r"the disk of .* is full: \d+ MiB are free"):
        StateFolder(place / "state", refuse_below=1 << 60).open()
    with StateFolder(place / "state", refuse_below=0, warn_below=1 << 60) as state:
        assert "nearly full" in state.warnings[0]
