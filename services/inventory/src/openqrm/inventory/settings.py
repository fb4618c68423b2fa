"""What an operator can set about inventory."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InventorySettings(BaseSettings):
    """From the environment as OPENQRM_INVENTORY_DSN and so on, or given by the embedded start."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_INVENTORY_", frozen=True)

    dsn: str = Field(default="postgresql+asyncpg://openqrm@127.0.0.1/openqrm", repr=False, description="PostgreSQL")
    pool_size: int = Field(default=10, ge=3, le=100, description="Connections to PostgreSQL")
    reading_pool_size: int = Field(default=4, ge=1, le=100, description="Connections for answering questions, besides")
    mac_quarantine_seconds: int = Field(
        default=24 * 3600, ge=0, description="How long a released MAC address rests before it is given out again"
    )
    sweep_seconds: float = Field(
        default=2.0, gt=0, description="How often unfinished operations are looked through for one that got stuck"
    )
    stuck_seconds: float = Field(
        default=10.0, gt=0, description="How long an operation may wait for a placement before it is asked for again"
    )
    waiting_seconds: float = Field(
        default=30.0, gt=0, description="How often operations that wait for capacity look again in any case"
    )
    heartbeat_seconds: float = Field(
        default=10.0, gt=0, description="How often heartbeats are written: the precision of a host's last_seen_at"
    )
    history_days: int = Field(default=30, ge=1, description="How long published events stay in the events table")
    history_events: int = Field(default=1_000_000, ge=1, description="How many stay there at the most")
    dead_letters_kept: int = Field(default=10_000, ge=1, description="Dead letters kept at the most, the newest ones")
    crash_restarts: int = Field(default=3, ge=0, description="Restarts after crashes within the window, at the most")
    crash_window_seconds: int = Field(default=600, ge=1, description="The window for crash_restarts")
