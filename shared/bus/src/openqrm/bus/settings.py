"""How a service reaches NATS."""

from pathlib import Path

from pydantic import Field, ValidationError
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


def about_a_setting(error: Exception) -> str | None:
    """Which environment variable, of any settings, cannot be used and why; None when it is about something else."""
    prefixes = {known.__name__: known.model_config.get("env_prefix", "") for known in BaseSettings.__subclasses__()}
    if not isinstance(error, ValidationError) or error.title not in prefixes:
        return None
    first = error.errors(include_url=False)[0]
    name = prefixes[error.title] + str(first["loc"][0] if first["loc"] else "").upper()
    return f"{name} is set to something that cannot be used: {first['msg']}."
