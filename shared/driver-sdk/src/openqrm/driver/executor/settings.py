"""What the operator of an executor sets: limits, time-outs, intervals. All times in seconds."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ExecutorSettings(BaseSettings):
    """From the environment as OPENQRM_EXECUTOR_CONCURRENCY and so on, or given by the embedded start."""

    model_config = SettingsConfigDict(env_prefix="OPENQRM_EXECUTOR_", frozen=True)

    # Concurrency
    concurrency: int = Field(
        default=1024,
        ge=1,
        le=4096,
        description="Routed commands in hand at once, over all hosts, waiting ones included",
    )
    executions_per_host: int = Field(default=4, ge=1, description="Executions on one host at once, migrations aside")
    migrations_per_host: int = Field(default=2, ge=1, description="Migrations from, and also to, one host at once")
    waiting_per_host: int = Field(
        default=8, ge=0, description="Executions that wait in memory for one busy host; more go back to the queue"
    )
    connects_at_once: int = Field(
        default=64, ge=1, description="Hosts that are connected and read for the first time at once"
    )
    connect_hold: float = Field(
        default=2.0, gt=0, description="After this long a host that hangs while it is connected makes room for others"
    )

    # Time-outs
    default_timeout: float = Field(default=60.0, gt=0, description="Limit of a verb without a limit of its own")
    create_timeout: float = Field(default=3600.0, gt=0, description="Limit of partition.create, image copies included")
    delete_timeout: float = Field(default=600.0, gt=0, description="Limit of partition.delete")
    migrate_timeout: float = Field(default=6 * 3600.0, gt=0, description="Limit of partition.migrate, disks included")
    disk_timeout: float = Field(default=3600.0, gt=0, description="Limit of attaching or detaching a disk")
    prepare_timeout: float = Field(default=1800.0, gt=0, description="Limit of host.prepare, downloads included")
    shutdown_margin: float = Field(
        default=30.0, gt=0, description="Added to the time that partition.shutdown gives to the guest"
    )
    cancel_grace: float = Field(
        default=5.0, gt=0, description="What a driver's call may take to end after it was cancelled, then it is left"
    )
    retry_limit: float = Field(default=30.0, ge=0, description="For how long temporary errors of a driver are retried")
    unreachable_limit: float = Field(
        default=60.0, ge=0, description="For how long a command waits for a host that is not connected"
    )
    set_aside: float = Field(default=2.0, gt=0, description="Delay after which a command set aside comes again")
    drain_limit: float = Field(default=30.0, ge=0, description="At a stop: what running executions may take to finish")

    # Looking after hosts
    ping_interval: float = Field(default=5.0, gt=0, description="Between two heartbeats of a host")
    ping_timeout: float = Field(default=10.0, gt=0, description="Without an answer for this long a ping has failed")
    ping_failures: int = Field(default=2, ge=1, description="Failed pings in a row after which a host is lost")
    connect_timeout: float = Field(default=30.0, gt=0, description="Limit for connecting to a host")
    observe_timeout: float = Field(default=60.0, gt=0, description="Limit for reading a host and its partitions")
    observe_interval: float = Field(default=30.0, gt=0, description="Between two readings of a host")
    full_observation_interval: float = Field(
        default=600.0, gt=0, description="A reading is reported at least this often, changed or not"
    )
    reconnect_first: float = Field(
        default=1.0, gt=0, description="First wait before a host is connected again; doubles"
    )
    reconnect_longest: float = Field(default=30.0, gt=0, description="Longest wait before a host is connected again")
    relist_interval: float = Field(default=600.0, gt=0, description="Between two checks of the list of hosts")

    # Consoles
    console_keepalive: float = Field(default=20.0, gt=0, description="Between two empty frames of a console session")
    console_silence: float = Field(default=60.0, gt=0, description="Without a frame for this long a session is closed")
