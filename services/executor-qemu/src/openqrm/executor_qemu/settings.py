"""What the operator of an executor sets: keys, certificates, time limits."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class QemuSettings(BaseSettings):
    """From the environment as OPENQRM_QEMU_SSH_PRIVATE_KEY and so on; what differs by host is in its HostConnection."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_QEMU_", frozen=True)

    ssh_private_key: Path | None = Field(
        default=None, description="Private key for qemu+ssh and host.prepare; ~/.ssh/id_* when left out"
    )
    pki_path: Path | None = Field(
        default=None,
        description="Folder with cacert.pem, clientcert.pem and clientkey.pem for qemu+tls; "
        "libvirt's own places under /etc/pki when left out",
    )
    calls_per_host: int = Field(
        default=16,
        ge=2,
        le=64,
        description="Calls to one host at a time, hung ones included; each has a thread and a connection for itself",
    )
    call_timeout_seconds: float = Field(default=30, gt=0, description="Limit of a call that should be quick")
    connect_timeout_seconds: float = Field(default=8, gt=0, le=9, description="Limit for opening a connection")
    keepalive_seconds: int = Field(default=5, ge=1)
    keepalive_count: int = Field(default=3, ge=1)
    probe_timeout_seconds: float = Field(default=6, gt=0, description="Limit for the KVM probe's guest")
    agent_timeout_seconds: int = Field(default=5, ge=1, description="Limit for an answer of the guest agent")
    release_timeout_seconds: float = Field(default=20, gt=0, description="Limit for a guest to let go of a device")
    balloon_timeout_seconds: float = Field(default=15, gt=0, description="Limit for a balloon that does not move")
