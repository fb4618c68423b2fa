"""What a person can set about the embedded start."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class EmbeddedSettings(BaseSettings):
    """From the environment as OPENQRM_HTTP_PORT and so on; the state folder is OPENQRM_STATE."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_", frozen=True)

    http_host: str = Field(default="127.0.0.1", description="Address that the gateway listens on")
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Port that the gateway listens on; 0 for a free one"
    )
    nats_port: int | None = Field(
        default=4222, ge=1, le=65535, description="Loopback port of NATS; empty for a free one"
    )
    technologies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("qemu",), description="Executors to start, with commas, such as qemu,fake"
    )
    local_host: bool = Field(default=True, description="Whether to enrol this machine as a QEMU host")
    bridge: str = Field(default="openqrm0", description="Bridge of the first network on this machine")
    demo_image: bool = Field(default=True, description="Whether to build the demonstration image")
    otlp_endpoint: str | None = Field(
        default=None, description="Traces URL of an OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR"
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("technologies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("nats_port", mode="before")
    @classmethod
    def _empty_is_free(cls, value: object) -> object:
        return None if value in ("", "0", 0) else value
