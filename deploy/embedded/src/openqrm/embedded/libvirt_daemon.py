"""Makes `qemu:///system` answer on this machine, by the means that the machine has."""

import asyncio
import contextlib
import grp
import os
import shutil
import signal
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import psutil

from openqrm.contracts.clock import Clock
from openqrm.embedded.errors import StartError
from openqrm.embedded.process import Child, ChildSpec, DeathCallback, end_processes

URI = "qemu:///system"
PROBE_NAME = "openqrm-probe"
"""Name of the paused, diskless guest of 16 MiB that is made for half a second to prove that guests can run."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C", "HOME": "/root"}
_SYSTEMD = Path("/run/systemd/system")
_LOG_SOCKET = Path("/run/libvirt/virtlogd-sock")
_KVM = Path("/dev/kvm")
_UNITS = ("libvirtd.service", "virtqemud.socket")  # the second: distributions with one daemon per driver
_PROBE = f"""\
<domain type='qemu'><name>{PROBE_NAME}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""


@dataclass(frozen=True)
class HostAbility:
    """Whether this machine can be a QEMU host.

    Attributes:
        available: guests can run here; one has just been made and destroyed.
        reason: a sentence: why not, or how.
        uri: the libvirt address to enrol.
        started_here: libvirtd is our child and ends with us; the guests do not.
    """

    available: bool
    reason: str
    uri: str = URI
    started_here: bool = False


class LibvirtDaemon:
    """libvirtd for this machine: found running, started by systemd, or started by us where there is no systemd.

    What a guest needs to survive us: QEMU has detached itself and lives on without libvirtd; the next libvirtd finds
    it by its state in /run/libvirt/qemu. Its output is a pipe to virtlogd, which nobody can take over: with virtlogd
    gone the guest runs on but its log is lost for good. So virtlogd is made a daemon, not our child, and is ended only
    when no guest runs.
    """

    def __init__(self, folder: Path, clock: Clock, *, on_death: DeathCallback | None = None) -> None:
        """Describe it; nothing is touched yet.

        Args:
            folder: for the log and the process ids of what we start ourselves.
            clock: the source of time.
            on_death: called with a sentence when a libvirtd that we started ends by itself.
        """
        self._folder = folder.absolute()
        self._clock = clock
        self._on_death = on_death
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id of libvirtd when we started it and it runs, else None."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> HostAbility:
        """Make libvirt answer if this machine can; never raises for what the machine lacks."""
        for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("virsh", "libvirt-clients")):
            if shutil.which(program, path=_PATH) is None:
                return _unable(f"the program {program} is missing: install the package {package}")
        if refusal := await self._refusal():
            try:
                await self._bring_up(refusal)
            except StartError as error:
                return _unable(str(error))
        failure = await self._probe()
        if failure:
            await self.stop()
            return _unable(failure)
        ours = self._child is not None
        how = "libvirtd was started by openQRM" if ours else "libvirtd of this machine answers"
        return HostAbility(available=True, reason=how, started_here=ours)

    async def stop(self) -> None:
        """End the libvirtd that we started, if we did; running guests stay."""
        guests = await self._run("virsh", "-c", URI, "list", "--name") if self._logger() is not None else None
        if self._child is not None:
            await self._child.stop()
            self._child = None
        logger = self._logger()
        if logger is not None and guests is not None and guests.status == 0 and not guests.output.strip():
            with contextlib.suppress(StartError):
                await end_processes([logger], [(signal.SIGTERM, 5.0)], self._clock)

    async def _bring_up(self, refusal: str) -> None:
        root = os.geteuid() == 0
        if "Permission denied" in refusal or "authentication" in refusal.lower():
            raise StartError(
                "this user may not speak to libvirt: sudo usermod -aG libvirt $USER, then log in again "
                f"(libvirt says: {refusal})"
            )
        if _has_systemd():
            if not root:
                raise StartError(f"libvirtd does not run ({refusal}): sudo systemctl enable --now libvirtd")
            await self._start_unit()
        elif not root:
            raise StartError("libvirtd does not run, and only root can start it: run make up as root")
        else:
            await self._start_ourselves()

    async def _start_unit(self) -> None:
        problem = ""
        for unit in _UNITS:
            result = await self._run("systemctl", "start", unit, patience=90)
            if result.status == 0:
                refusal = await self._refusal()
                if not refusal:
                    return
                problem = problem or f"{unit} runs, but libvirt says: {refusal}"
            problem = problem or f"systemctl start {unit} failed: {result.complaint}"
        raise StartError(problem)

    async def _start_ourselves(self) -> None:
        program = shutil.which("libvirtd", path=_PATH)
        if program is None:
            raise StartError("the program libvirtd is missing: install the package libvirt-daemon-system")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _open_kvm_to_qemu()
        except OSError as error:
            raise StartError(f"libvirtd cannot be prepared: {error.strerror} ({error.filename})") from error
        await self._start_logger()
        spec = ChildSpec(
            name="libvirtd",
            argv=[program, "--pid-file", str(self._folder / "libvirtd.pid")],
            log=self._folder / "libvirtd.log",
            environment=_ENVIRONMENT,
            stop=((signal.SIGTERM, 15.0),),
            may_gain_rights=True,  # it confines QEMU by changing profiles
        )
        child = Child(spec, self._clock, self._on_death)

        async def answers() -> bool:
            return not await self._refusal()

        await child.start(answers, within=60)
        self._child = child

    async def _start_logger(self) -> None:
        if _listens(_LOG_SOCKET):
            return
        result = await self._run("virtlogd", "--daemon", "--pid-file", str(self._folder / "virtlogd.pid"))
        if result.status != 0:
            raise StartError(f"virtlogd cannot be started: {result.complaint}")

    def _logger(self) -> psutil.Process | None:
        """The virtlogd that this or an earlier start of ours has made, while it runs."""
        try:
            process = psutil.Process(int((self._folder / "virtlogd.pid").read_text(encoding="ascii")))
            return process if process.name() == "virtlogd" else None
        except (OSError, ValueError, psutil.Error):
            return None

    async def _refusal(self) -> str:
        """Why libvirt does not answer; empty when it does. The first answer takes it seconds: it examines QEMU."""
        result = await self._run("virsh", "-c", URI, "version", patience=60)
        return "" if result.status == 0 else result.complaint

    async def _probe(self) -> str:
        """Make a guest and destroy it; return what stood in the way, empty if nothing did."""
        await self._run("virsh", "-c", URI, "destroy", PROBE_NAME)  # of a start that was killed meanwhile
        result = await self._run(
            "virsh", "-c", URI, "create", "--file", "/dev/stdin", "--paused", "--autodestroy", text=_PROBE, patience=60
        )
        await self._run("virsh", "-c", URI, "destroy", PROBE_NAME)  # at once; by itself it would take a moment
        if result.status == 0:
            return ""
        hint = ""
        if "Read-only file system" in result.complaint:
            hint = "; this container may not make control groups: set cgroup_controllers = [] in /etc/libvirt/qemu.conf"
        return f"QEMU cannot run a guest here: {result.complaint}{hint}"

    async def _run(self, *command: str, text: str = "", patience: float = 30) -> "_Result":
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, env=_ENVIRONMENT, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return _Result(127, "", f"{command[0]}: {error.strerror}")
        try:
            output, errors = await asyncio.wait_for(process.communicate(text.encode()), patience)
        except TimeoutError:
            return _Result(124, "", f"{command[0]} gave no answer in {patience:.0f} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        assert process.returncode is not None  # noqa: S101 - communicate() waits for the end
        return _Result(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


@dataclass(frozen=True)
class _Result:
    status: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The most precise line: virsh writes the general one first."""
        lines = [line.removeprefix("error: ").strip() for line in self.errors.splitlines()]
        return next((line for line in reversed(lines) if line), f"exit status {self.status}")


def _unable(reason: str) -> HostAbility:
    return HostAbility(available=False, reason=reason)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _open_kvm_to_qemu() -> None:
    """Give /dev/kvm to the group kvm, as udev does everywhere else; where there is no udev it stays root's alone.

    libvirt examines QEMU with rights that can open /dev/kvm, then finds that its user libvirt-qemu cannot, and takes
    its examination for outdated: again and again, 8 s for every guest that starts instead of 0.4 s.
    """
    try:
        status = _KVM.stat()
        group = grp.getgrnam("kvm").gr_gid
    except (FileNotFoundError, KeyError):
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o006 == 0o006 or (status.st_gid == group and mode & 0o060 == 0o060):
        return
    with contextlib.suppress(OSError):  # a read-only /dev: slow starts are better than none
        os.chown(_KVM, -1, group)
        _KVM.chmod(0o660)


def _has_systemd() -> bool:
    return _SYSTEMD.exists()
