#!/usr/bin/env python3
"""Builds the demonstration image: a small guest that boots on any hypervisor with a BIOS.

    build.py --output DIR [--cache DIR]     builds DIR/openqrm-demo.qcow2 (and .raw, vmlinuz, initrd.img beside it)
    build.py --packages                     prints the distribution packages the build needs, on one line

The kernel and the guest agent come from the distribution's own packages, which are downloaded and unpacked,
never installed. Neither root nor mounting is needed. A second run does nothing unless this folder or the
distribution's kernel has changed.
"""

import argparse
import hashlib
import json
import lzma
import os
import re
import shlex
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

# Debian and Ubuntu call them all the same.
APT_PACKAGES = ("busybox-static", "kmod", "lz4", "mtools", "qemu-utils", "syslinux", "zstd")
COMMANDS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "ldd": "libc-bin",
    "lz4": "lz4",
    "mcopy": "mtools",
    "mformat": "mtools",
    "modprobe": "kmod",
    "qemu-img": "qemu-utils",
    "syslinux": "syslinux",
}

# Smallest first: the cloud and virtual kernels have what a virtual machine needs, and load faster.
KERNEL_META_PACKAGES = (
    "linux-image-cloud-amd64",
    "linux-image-virtual",
    "linux-image-generic",
    "linux-image-amd64",
)

# Missing ones are skipped: a driver may be built into the kernel, or left out of its small flavour.
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_mem", "virtio_console"),
    *("virtio_scsi", "virtio_rng", "button", "evdev", "crc32c_intel", "crc32c_generic"),
    *("sd_mod", "sr_mod", "ata_piix", "ahci", "nvme", "e1000", "e1000e"),
    *("vmxnet3", "vmw_pvscsi", "mptspi", "xen_blkfront", "xen_netfront", "xen_platform_pci"),
    *("hv_vmbus", "hv_netvsc", "hv_storvsc", "hv_utils"),
)
FOLDERS = (
    "bin",
    "sbin",
    "usr/bin",
    "usr/sbin",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "root",
    "mnt",
    "var/log",
    "etc",
)

# `mitigations` to `swiotlb` save about a third of the boot time under emulation, and 64 MiB of bounce buffers
# that the kernel reserves as soon as memory is hot-pluggable. `memhp_default_state` lets plugged memory be
# taken out again.
KERNEL_OPTIONS = (
    "console=tty1 console=ttyS0,115200 quiet mitigations=off nokaslr edd=off swiotlb=noforce "
    "memhp_default_state=online_movable"
)

PASSWORD = "openqrm"  # noqa: S105 - the guest is a demonstration; its README names it
DISK_MIB = 64
PARTITION_SECTOR = 2048
SECTOR = 512
HERE = Path(__file__).resolve().parent
SYSLINUX_MBR = ("/usr/lib/SYSLINUX/mbr.bin", "/usr/lib/syslinux/mbr/mbr.bin")


class BuildError(Exception):
    """Why no image can be built, in one sentence."""


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)  # noqa: T201 - a command line program


def run(arguments: Sequence[str | Path], directory: Path | None = None) -> str:
    """Runs a command and returns its output; raises BuildError with the command's last line if it fails."""
    result = subprocess.run(  # noqa: S603 - fixed programs, no shell
        [str(argument) for argument in arguments],
        cwd=directory,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        command = shlex.join(str(argument) for argument in arguments[:3])
        raise BuildError(f"'{command}' failed with status {result.returncode}: {lines[-1]}")
    return result.stdout.decode(errors="replace")


def check_commands() -> None:
    """Raises BuildError naming the packages that are missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})
    if missing:
        raise BuildError(f"missing packages, install them with: apt-get install {' '.join(missing)}")


def busybox() -> Path:
    """The machine's own busybox; raises BuildError if it needs libraries, which the guest would not have."""
    found = shutil.which("busybox")
    if found is None or b"/ld-linux" in Path(found).read_bytes():
        raise BuildError("no static busybox here, install the package busybox-static")
    return Path(found)


# --- packages -------------------------------------------------------------------------------------


def dependencies(package: str, pattern: str) -> list[str]:
    """The direct dependencies of a package whose names match the pattern."""
    lines = run(["apt-cache", "depends", "--important", package]).splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if "Depends:" in line]
    return [name for name in names if re.fullmatch(pattern, name)]


def kernel_packages() -> list[str]:
    """The packages that hold the distribution's newest small kernel and its modules."""
    for meta in KERNEL_META_PACKAGES:
        try:
            images = dependencies(meta, r"linux-image-\d.*")
        except BuildError:
            continue
        if images:
            # Ubuntu keeps the modules in a package of their own, which the image depends on.
            return [images[0], *dependencies(images[0], r"linux-modules-\d.*")]
    raise BuildError(f"apt knows none of {', '.join(KERNEL_META_PACKAGES)}; run apt-get update")


def candidate(package: str) -> str:
    """The version apt would download."""
    match = re.search(r"Candidate: (\S+)", run(["apt-cache", "policy", package]))
    if match is None or match[1] == "(none)":
        raise BuildError(f"apt has no package {package}; run apt-get update")
    return match[1]


def download(package: str, cache: Path) -> Path:
    """Downloads a package into the cache unless that version is there, and returns its file."""
    version = candidate(package).replace(":", "%3a")
    kept = sorted(cache.glob(f"{package}_{version}_*.deb"))
    if not kept:
        say(f"downloading {package}")
        # Into a folder of its own: an interrupted download must not look like a package in the cache.
        with tempfile.TemporaryDirectory(dir=cache) as name:
            folder = Path(name)
            run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], folder)
            fetched = next(folder.glob("*.deb"))
            kept = [fetched.rename(cache / fetched.name)]
    return kept[0]


def unpack(package: str, cache: Path, target: Path) -> Path:
    """Downloads and unpacks a package; returns its file."""
    file = download(package, cache)
    run(["dpkg-deb", "-x", file, target])
    return file


# --- the guest's files ----------------------------------------------------------------------------


def busybox_tree(root: Path) -> None:
    """The static part: folders, busybox with a link for each applet, the files of rootfs/ and the accounts."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox(), root / "bin/busybox")
    for applet in run([busybox(), "--list"]).split():
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    for name in ("init", "poweroff", "reboot", "halt", "modprobe", "mke2fs"):
        (root / "sbin" / name).symlink_to("../bin/busybox")
    (root / "init").symlink_to("bin/busybox")
    (root / "var/run").symlink_to("../run")
    shutil.copytree(HERE / "rootfs", root, dirs_exist_ok=True, symlinks=True)
    secret = run([busybox(), "mkpasswd", "-m", "sha256", "-S", "openqrmdemo", PASSWORD]).strip()
    (root / "etc/passwd").write_text(f"root:{secret}:0:0:root:/root:/bin/sh\n")
    (root / "etc/resolv.conf").write_text("")


def plain_module(source: Path, target: Path) -> None:
    """Copies a module uncompressed: busybox reads no compressed ones, and the whole image is compressed anyway."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".xz":
        target.write_bytes(lzma.decompress(source.read_bytes()))
    elif source.suffix == ".zst":
        run(["zstd", "-q", "-d", "-f", source, "-o", target])
    else:
        shutil.copy(source, target)


def kernel_modules(unpacked: Path, version: str, root: Path) -> None:
    """Copies the wanted modules with everything they depend on, and makes their index."""
    library = unpacked / "lib/modules"
    if not library.is_dir():  # a merged /usr inside the package
        library = unpacked / "usr/lib/modules"
        (unpacked / "lib").mkdir(exist_ok=True)
        (unpacked / "lib/modules").symlink_to(library)
    run(["depmod", "-b", unpacked, version])
    target = root / "lib/modules" / version
    target.mkdir(parents=True)
    for module in MODULES:
        try:
            plan = run(["modprobe", "-d", unpacked, "-S", version, "--show-depends", module])
        except BuildError:
            continue
        for line in plan.splitlines():
            if line.startswith("insmod "):
                source = Path(line.split()[1])
                inside = Path(*source.parts[source.parts.index(version) + 1 :])
                name = inside.name.removesuffix(".xz").removesuffix(".zst")
                plain_module(source, target / inside.with_name(name))
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(library / version / name, target / name)
    run(["depmod", "-b", root, version])
    # busybox reads the text indexes only
    for index in target.glob("*.bin"):
        index.unlink()


def shared_libraries(program: Path, library_path: str) -> dict[str, Path | None]:
    """The libraries a program loads, by name; None for one that is not found."""
    environment = ["env", f"LD_LIBRARY_PATH={library_path}", "ldd", str(program)]
    found: dict[str, Path | None] = {}
    for line in run(environment).splitlines():
        if match := re.match(r"\s*(?:(\S+) => )?(/\S+) \(0x", line):
            found[match[1] or match[2]] = Path(match[2])
        elif match := re.match(r"\s*(\S+) => not found", line):
            found[match[1]] = None
    return found


def guest_agent(cache: Path, work: Path, root: Path) -> None:
    """The QEMU guest agent with its libraries, from packages where the machine does not have them."""
    unpacked = work / "agent"
    queue, seen = ["qemu-guest-agent"], {"qemu-guest-agent"}
    unpack(queue[0], cache, unpacked)
    program = next(unpacked.glob("usr/*bin/qemu-ga"))
    folders = ":".join(str(unpacked / folder) for folder in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
    while None in (libraries := shared_libraries(program, folders)).values():
        if not queue:
            names = ", ".join(name for name, path in libraries.items() if path is None)
            raise BuildError(f"no package has the guest agent's libraries {names}")
        for package in dependencies(queue.pop(0), r"lib.*"):
            if package not in seen:
                seen.add(package)
                queue.append(package)
                unpack(package, cache, unpacked)
    shutil.copy(program, root / "usr/sbin/qemu-ga")
    for path in libraries.values():
        assert path is not None  # noqa: S101 - the loop above ends only then
        inside = path.relative_to(unpacked) if path.is_relative_to(unpacked) else path.relative_to("/")
        (root / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / inside)


# --- initramfs ------------------------------------------------------------------------------------


def archive_entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a cpio archive in the kernel's 'newc' form: owner root, no times, so that it is reproducible."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)


def archive(root: Path) -> Iterator[bytes]:
    """The tree as a cpio archive."""
    # The kernel opens the console before the first program runs, hence before /dev is mounted.
    yield archive_entry(1, "dev", stat.S_IFDIR | 0o755, b"")
    yield archive_entry(2, "dev/console", stat.S_IFCHR | 0o600, b"", (5, 1))
    number = 3
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            entry = archive_entry(number, name, stat.S_IFLNK | 0o777, str(path.readlink()).encode())
        elif path.is_dir():
            entry = archive_entry(number, name, stat.S_IFDIR | 0o755, b"")
        else:
            executable = path.stat().st_mode & stat.S_IXUSR
            entry = archive_entry(number, name, stat.S_IFREG | (0o755 if executable else 0o644), path.read_bytes())
        yield entry
        number += 1
    yield archive_entry(0, "TRAILER!!!", 0, b"")


def initramfs(root: Path, target: Path) -> None:
    """Packs the tree. lz4 in its old framing is the one the kernel reads, and it unpacks fastest under emulation."""
    plain = target.with_suffix(".cpio")
    with plain.open("wb") as file:
        file.writelines(archive(root))
    run(["lz4", "-l", "-9", "-q", "-f", plain, target])
    plain.unlink()


# --- disk -----------------------------------------------------------------------------------------


def master_boot_record() -> bytes:
    """Syslinux's boot code and a partition table with one active FAT partition that fills the disk."""
    code = next((Path(file) for file in SYSLINUX_MBR if Path(file).exists()), None)
    if code is None:
        raise BuildError("syslinux's mbr.bin is missing, install the package syslinux")
    sectors = DISK_MIB * 1024 * 1024 // SECTOR - PARTITION_SECTOR
    # Cylinders, heads and sectors of 1023/254/63 mean 'use the block addresses'. Type 0x0e is FAT16 by block addresses.
    everywhere = b"\xfe\xff\xff"
    partition = b"\x80" + everywhere + b"\x0e" + everywhere + struct.pack("<II", PARTITION_SECTOR, sectors)
    return code.read_bytes()[:440].ljust(440, b"\0") + b"OQRM\0\0" + partition.ljust(64, b"\0") + b"\x55\xaa"


def disk(kernel: Path, initrd: Path, work: Path, target: Path) -> None:
    """Writes a raw disk that starts the kernel through syslinux."""
    configuration = work / "syslinux.cfg"
    configuration.write_text(
        f"DEFAULT demo\nPROMPT 0\nTIMEOUT 0\nLABEL demo\n LINUX vmlinuz\n INITRD initrd.img\n APPEND {KERNEL_OPTIONS}\n"
    )
    with target.open("wb") as file:
        file.write(master_boot_record())
        file.truncate(DISK_MIB * 1024 * 1024)
    offset = PARTITION_SECTOR * SECTOR
    partition = f"{target}@@{offset}"
    sectors = DISK_MIB * 1024 * 1024 // SECTOR - PARTITION_SECTOR
    # Large clusters keep the FAT short: the loader walks it through the BIOS.
    run(["mformat", "-i", partition, "-v", "OPENQRM", "-T", str(sectors), "-h", "255", "-s", "63", "-H",
         str(PARTITION_SECTOR), "-c", "32", "::"])  # fmt: skip
    run(["mcopy", "-i", partition, configuration, kernel, initrd, "::"])
    run(["syslinux", "--offset", str(offset), "--install", target])


# --- command line ---------------------------------------------------------------------------------


def fingerprint(packages: Sequence[str]) -> dict[str, str]:
    """What the image is made of: this folder's files and the versions of the packages."""
    digest = hashlib.sha256()
    for path in sorted([Path(__file__).resolve(), *(HERE / "rootfs").rglob("*")]):
        if path.is_file():
            digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes())
    return {"files": digest.hexdigest(), **{package: candidate(package) for package in packages}}


def build(output: Path, cache: Path, work: Path, kernel: Sequence[str]) -> list[Path]:
    """Builds everything inside `work` and returns the finished files."""
    unpacked, root = work / "kernel", work / "root"
    root.mkdir()
    for package in kernel:
        unpack(package, cache, unpacked)
    image = next((unpacked / "boot").glob("vmlinuz-*"))
    version = image.name.removeprefix("vmlinuz-")
    say(f"kernel {version}")
    vmlinuz = Path(shutil.copyfile(image, work / "vmlinuz"))
    busybox_tree(root)
    kernel_modules(unpacked, version, root)
    guest_agent(cache, work, root)
    initrd = work / "initrd.img"
    initramfs(root, initrd)
    say(f"vmlinuz {vmlinuz.stat().st_size >> 10} KiB, initrd.img {initrd.stat().st_size >> 10} KiB")
    raw, qcow2 = work / "openqrm-demo.raw", work / "openqrm-demo.qcow2"
    disk(vmlinuz, initrd, work, raw)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2])
    output.mkdir(parents=True, exist_ok=True)
    return [vmlinuz, initrd, raw, qcow2]


def publish(files: Sequence[Path], output: Path) -> None:
    """Puts each file in place by a rename, so that nobody ever reads half an image."""
    for file in files:
        file.chmod(0o644)
        temporary = output / f".{file.name}.{os.getpid()}"
        shutil.copyfile(file, temporary)
        temporary.replace(output / file.name)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the image is written")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps downloaded packages for the next build")
    parser.add_argument("--packages", action="store_true", help="prints the packages the build needs")
    options = parser.parse_args(arguments)
    if options.packages:
        say(" ".join(APT_PACKAGES))
        return 0
    if options.output is None:
        parser.error("--output DIR is required")
    output: Path = options.output.resolve()
    stamp = output / "openqrm-demo.json"
    try:
        check_commands()
        kernel = kernel_packages()
        made_of = fingerprint([*kernel, "qemu-guest-agent"])
        if stamp.exists() and json.loads(stamp.read_text()) == made_of and (output / "openqrm-demo.qcow2").exists():
            say(f"{output}/openqrm-demo.qcow2 is up to date")
            return 0
        with tempfile.TemporaryDirectory(prefix="openqrm-demo-") as name:
            work = Path(name)
            cache: Path = (options.cache or work / "packages").resolve()
            cache.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            publish(build(output, cache, work, kernel), output)
        stamp.write_text(json.dumps(made_of, indent=1) + "\n")
        say(f"{output}/openqrm-demo.qcow2 is ready")
    except (BuildError, OSError) as error:
        sys.stderr.write(f"build.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
