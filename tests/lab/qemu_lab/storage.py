"""What the storage host offers, on both networks. storage.sh starts it from these values."""

from dataclasses import dataclass

SERVER = "10.77.1.21"  # sto on the storage network


@dataclass(frozen=True)
class IscsiTarget:
    """An iSCSI target. Its data is logical unit 1; unit 0 is the server's controller."""

    iqn: str
    size_mib: int
    user: str | None = None
    password: str | None = None
    portal: str = f"{SERVER}:3260"
    lun: int = 1


@dataclass(frozen=True)
class NfsExport:
    """An NFS directory, version 3 and 4, root not squashed."""

    path: str  # with version 3; /nfs with version 4
    pseudo_path: str
    directory: str  # on the storage host
    server: str = SERVER


@dataclass(frozen=True)
class NbdExport:
    """A network block device, unencrypted."""

    name: str
    size_mib: int
    server: str = SERVER
    port: int = 10809


PLAIN_TARGET = IscsiTarget("iqn.2026-01.lab.openqrm:plain", 128)
CHAP_TARGET = IscsiTarget("iqn.2026-01.lab.openqrm:chap", 128, "labuser", "labsecret123")
NFS_EXPORT = NfsExport("/lab/local/nfs", "/nfs", "/lab/local/nfs")
NBD_EXPORT = NbdExport("nbd1", 128)


def environment() -> dict[str, str]:
    """The values for storage.sh."""
    return {
        "STORAGE_PLAIN_IQN": PLAIN_TARGET.iqn,
        "STORAGE_PLAIN_MIB": str(PLAIN_TARGET.size_mib),
        "STORAGE_CHAP_IQN": CHAP_TARGET.iqn,
        "STORAGE_CHAP_MIB": str(CHAP_TARGET.size_mib),
        "STORAGE_CHAP_USER": CHAP_TARGET.user or "",
        "STORAGE_CHAP_PASSWORD": CHAP_TARGET.password or "",
        "STORAGE_NFS_DIRECTORY": NFS_EXPORT.directory,
        "STORAGE_NFS_PSEUDO": NFS_EXPORT.pseudo_path,
        "STORAGE_NBD_NAME": NBD_EXPORT.name,
        "STORAGE_NBD_MIB": str(NBD_EXPORT.size_mib),
        "STORAGE_NBD_PORT": str(NBD_EXPORT.port),
    }
