"""What the operator of the fake executor sets."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class FakeSettings(BaseSettings):
    """From the environment as OPENQRM_FAKE_FOLDER and so on."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_FAKE_", frozen=True)

    folder: Path | None = Field(
        default=None,
        description="Keep each host in a JSON file of this folder, so that hosts outlive the executor's process; "
        "in memory only when left out",
    )
