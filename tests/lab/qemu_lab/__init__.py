"""Several real QEMU hosts, a storage server and an unprepared host on one machine, each in namespaces of its own.

`Lab` is the way in; see README.md beside this package.
"""

from qemu_lab.controller import ControllerConnection
from qemu_lab.errors import LabError
from qemu_lab.lab import Lab
from qemu_lab.plan import Member, Role
from qemu_lab.storage import CHAP_TARGET, NBD_EXPORT, NFS_EXPORT, PLAIN_TARGET, IscsiTarget, NbdExport, NfsExport

__all__ = [
    "CHAP_TARGET",
    "NBD_EXPORT",
    "NFS_EXPORT",
    "PLAIN_TARGET",
    "ControllerConnection",
    "IscsiTarget",
    "Lab",
    "LabError",
    "Member",
    "NbdExport",
    "NfsExport",
    "Role",
]
