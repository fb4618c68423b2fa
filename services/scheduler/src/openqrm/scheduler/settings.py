"""What an operator can set about the scheduler."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from openqrm.contracts.paging import MAX_PAGE
from openqrm.contracts.placement import MAX_EXPLAINED


class SchedulerSettings(BaseSettings):
    """From the environment as OPENQRM_SCHEDULER_CPU_BALANCE and so on, or given by the embedded start."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_SCHEDULER_", frozen=True)

    cpu_balance: float = Field(
        default=1.0, description="Weight of the share of vCPUs left free; below zero fills hosts up instead"
    )
    memory_balance: float = Field(
        default=1.0, description="Weight of the share of memory left free; below zero fills hosts up instead"
    )
    spread: float = Field(
        default=0.5, description="Weight of having few partitions; below zero prefers hosts that have many"
    )
    explained_hosts: int = Field(
        default=MAX_EXPLAINED,
        ge=2,
        le=MAX_EXPLAINED,
        description="Hosts explained one by one in an answer, taken and refused together; the counts cover all of them",
    )
    pending_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds for which a proposal counts as reserved when nothing is heard of its partition",
    )
    page_size: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE, description="Items per page when the lists are read")
    retry_seconds: float = Field(default=1.0, gt=0, description="Seconds between attempts to read the lists")
    check_seconds: float = Field(
        default=30.0, gt=0, description="Seconds between checks that no event was lost from the stream unseen"
    )
