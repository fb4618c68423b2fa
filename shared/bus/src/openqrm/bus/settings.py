"""How a service reaches NATS."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BusSettings(BaseSettings):
    """From the environment as OPENQRM_NATS_URL and so on, or given by the embedded start."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_NATS_", frozen=True)

    url: str = Field(default="nats://127.0.0.1:4222", description="One URL or several with commas; tls:// for TLS")
    user: str | None = Field(default=None, description="User name; also the private part of the reply inbox")
    password: str | None = Field(default=None, repr=False)
    credentials: Path | None = Field(default=None, description="A .creds file (JWT and key), instead of a password")
    ca_file: Path | None = Field(default=None, description="CA certificates that the server's must chain to")
    cert_file: Path | None = Field(default=None, description="Client certificate, where the server asks for one")
    key_file: Path | None = Field(default=None, description="The client certificate's key")
    replicas: int = Field(default=1, ge=1, le=5, description="JetStream replicas of each stream")
