"""The product as one process in the controller's network: start, stop, kill, start again."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from qemu_lab import Lab

from product.waiting import wait_until

HTTP_PORT = 8080
"""The controller has a network of its own, so that nobody else can have the port."""
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Product:
    """openQRM with its own PostgreSQL and NATS, its state below the lab's folder."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._output: IO[str] | None = None

    @property
    def state(self) -> Path:
        """The product's state folder."""
        return self._folder / "state"

    @property
    def token(self) -> str:
        """The first administrator's token."""
        return (self.state / "admin-token").read_text().strip()

    def start(self) -> None:
        """Start it and wait until it serves."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL and NATS run as another user, who has to get through.
        self._folder.chmod(0o755)
        self._output = (self._folder / "output").open("a")
        environment = {
            "OPENQRM_STATE": str(self.state),
            "OPENQRM_HTTP_PORT": str(HTTP_PORT),
            "OPENQRM_NATS_PORT": "",
            "OPENQRM_TECHNOLOGIES": "qemu",
            "OPENQRM_LOCAL_HOST": "false",
            "OPENQRM_DEMO_IMAGE": "false",
            "OPENQRM_BRIDGE": "br0",
            "OPENQRM_QEMU_SSH_PRIVATE_KEY": str(self._lab.ssh_key),
            "OPENQRM_QEMU_PKI_PATH": str(self._lab.pki()),
            # What hangs or does not answer fails sooner than elsewhere, so that tests need not wait.
            "OPENQRM_EXECUTOR_UNREACHABLE_LIMIT": "15",
            "OPENQRM_EXECUTOR_RECONNECT_LONGEST": "5",
            "OPENQRM_QEMU_CALL_TIMEOUT_SECONDS": "15",
            "PYTHONUNBUFFERED": "1",
        }
        self._process = self._lab.popen_in_controller(
            [sys.executable, "-m", "openqrm.embedded"], environment, stdout=self._output, stderr=subprocess.STDOUT
        )

        def serves() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"openQRM ended while it started:\n{self.tail()}"
            return (self.state / "admin-token").exists() and self._lab.answers("127.0.0.1", HTTP_PORT)

        wait_until(serves, START_SECONDS, "openQRM serves")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ask it to stop, as Ctrl-C does, and wait until it has; SIGKILL takes only the one process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                status = self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"openQRM did not stop within {STOP_SECONDS:g} s:\n{self.tail()}") from None
            assert number is signal.SIGKILL or status == 0, f"openQRM stopped with status {status}:\n{self.tail()}"
        if self._output is not None:
            self._output.close()

    def tail(self, lines: int = 60) -> str:
        """What it said last: on its terminal and in its log."""
        parts = []
        for path in (self._folder / "output", self.state / "openqrm.log"):
            if path.exists():
                last = path.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join((f"--- {path.name}", *last)))
        return "\n".join(parts)

    def log_size(self) -> int:
        """Bytes of the log so far."""
        path = self.state / "openqrm.log"
        return path.stat().st_size if path.exists() else 0

    def log_since(self, position: int) -> str:
        """What was logged after that many bytes."""
        path = self.state / "openqrm.log"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(position)
            return file.read().decode(errors="replace")

    def forget(self) -> None:
        """Remove everything that it wrote."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def keep_log(self, target: Path) -> None:
        """Copy its log to where it survives."""
        path = self.state / "openqrm.log"
        if path.exists():
            shutil.copyfile(path, target)
            os.chmod(target, 0o644)  # noqa: PTH101 - beside copyfile
