"""Run by test_libvirt_daemon.py on a private machine: start libvirt, a guest, stop, start, and look at the guest."""

import asyncio
import subprocess
import sys
from pathlib import Path

from openqrm.contracts.clock import SystemClock
from openqrm.embedded.libvirt_daemon import PROBE_NAME, URI, LibvirtDaemon

DOMAIN = """
<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>
<target dev='vda' bus='virtio'/></disk><serial type='pty'/></devices></domain>
"""


def virsh(*arguments: str, text: str = "") -> str:
    command = ["virsh", "-c", URI, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def processes(name: str) -> list[str]:
    found = subprocess.run(["pidof", name], capture_output=True, text=True, check=False).stdout
    return found.split()


def make_guest(folder: Path, name: str) -> None:
    image = folder / "images" / "a.qcow2"
    image.parent.mkdir(mode=0o711, parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    virsh("create", "--file", "/dev/stdin", text=DOMAIN.format(name=name, image=image))


async def main(folder: Path) -> None:
    daemon = LibvirtDaemon(folder / "libvirt", SystemClock(), on_death=print)
    name = folder.name
    ability = await daemon.start()
    assert ability.available, ability.reason
    assert ability.started_here
    assert PROBE_NAME not in virsh("list", "--all", "--name")
    again = await LibvirtDaemon(folder / "other", SystemClock()).start()
    assert again.available
    assert not again.started_here, "what answers is left alone"

    make_guest(folder, name)
    (guest,) = processes("qemu-system-x86_64")
    await daemon.stop()
    assert processes("libvirtd") == []
    assert processes("virtlogd"), "it reads the guest's log"
    assert processes("qemu-system-x86_64") == [guest]

    ability = await daemon.start()
    assert ability.available, ability.reason
    assert virsh("list", "--name").split() == [name]
    virsh("suspend", name)
    virsh("resume", name)
    virsh("destroy", name)
    await daemon.stop()
    assert processes("libvirtd") == processes("virtlogd") == []
    sys.stdout.write("the guest survived\n")


asyncio.run(main(Path(sys.argv[1])))
