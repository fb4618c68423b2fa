"""MAC addresses as numbers, and the ranges that each technology's NICs get theirs from.

Sources: 00:16:3e is Xen's, 52:54:00 is the locally administered prefix that QEMU and libvirt use, 00:50:56:00:00:00 to
00:50:56:3f:ff:ff is VMware's range for statically assigned addresses. The others are locally administered.
"""

from openqrm.contracts.technology import MacRange

SEEDED: dict[str, tuple[str, MacRange | None]] = {
    "xen": ("Xen", MacRange(first="00:16:3e:00:00:00", last="00:16:3e:7f:ff:ff")),
    "qemu": ("QEMU/KVM", MacRange(first="52:54:00:00:00:00", last="52:54:00:ff:ff:ff")),
    "vmware": ("VMware", MacRange(first="00:50:56:00:00:00", last="00:50:56:3f:ff:ff")),
    "vserver": ("Linux-VServer", MacRange(first="02:56:53:00:00:00", last="02:56:53:ff:ff:ff")),
    "fake": ("Fake", MacRange(first="02:fa:4e:00:00:00", last="02:fa:4e:ff:ff:ff")),
}
"""Known from the start, so that addresses can be allocated before an executor announces itself."""


def to_number(mac: str) -> int:
    """A MAC address as a number of 48 bits."""
    return int(mac.replace(":", ""), 16)


def to_text(number: int) -> str:
    """A number of 48 bits as a MAC address."""
    digits = f"{number:012x}"
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
