"""What an operator can set about the gateway."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class GatewaySettings(BaseSettings):
    """From the environment as OPENQRM_GATEWAY_PORT and so on, or given by the embedded start."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_GATEWAY_", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 or :: for all")
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port to listen on; 0 for any free one")
    tls_cert: Path | None = Field(default=None, description="Certificate chain in PEM; with tls_key, HTTPS is spoken")
    tls_key: Path | None = Field(default=None, description="The certificate's private key in PEM")
    trusted_proxies: str = Field(
        default="", description="Addresses, with commas, whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    dsn: str = Field(default="postgresql+asyncpg://openqrm@127.0.0.1/openqrm", repr=False, description="PostgreSQL")
    pool_size: int = Field(default=5, ge=2, le=100, description="Connections to PostgreSQL")

    initial_token_file: Path | None = Field(
        default=None, description="Where the first start writes the first administrator's token (0600)"
    )
    initial_password_file: Path | None = Field(
        default=None,
        description="Where the first start writes the password of the user admin (0600); "
        "left out: admin-password beside the token file",
    )
    token_days: int = Field(default=90, ge=1, le=3650, description="How long a token holds when not said otherwise")
    session_hours: float = Field(default=12, gt=0, le=24 * 30, description="How long a login holds")
    credential_cache_seconds: float = Field(
        default=5,
        ge=0,
        le=300,
        description="How long a checked token is believed; also how late another replica hears of its revocation",
    )
    login_failures: int = Field(
        default=5, ge=1, description="Failed logins per user and address before each further one has to wait"
    )
    ticket_seconds: float = Field(default=60, gt=0, le=600, description="How long a console ticket can be used, once")

    image_folder: Path = Field(
        default=Path("/var/lib/openqrm/images"), description="Where uploaded images are kept; executors read them there"
    )
    image_max_bytes: int = Field(default=256 * 1024 * MIB, ge=1, description="Largest image that can be uploaded")
    image_disk_reserve_bytes: int = Field(
        default=512 * MIB, ge=0, description="Bytes that an upload leaves free on the image folder's disk"
    )
    body_max_bytes: int = Field(default=MIB, ge=1024, description="Largest request body, uploads of images aside")

    accept_seconds: float = Field(
        default=5, gt=0, le=60, description="How long a command's answer waits for inventory's first word"
    )
    event_queue: int = Field(
        default=1024, ge=1, description="Events that a live client may lag behind before it is dropped"
    )
    event_memory: int = Field(
        default=4096, ge=1, description="Newest events kept in memory, so that a client that returns soon costs little"
    )
    keepalive_seconds: float = Field(default=15, gt=0, description="How often a silent event stream shows life")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are needed together; set both or neither")
        return self

    @property
    def tls(self) -> bool:
        """Whether HTTPS is spoken."""
        return self.tls_cert is not None

    @property
    def password_file(self) -> Path | None:
        """Where the first password goes."""
        if self.initial_password_file is not None or self.initial_token_file is None:
            return self.initial_password_file
        return self.initial_token_file.with_name("admin-password")
