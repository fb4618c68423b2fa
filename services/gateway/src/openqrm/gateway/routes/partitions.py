"""Partitions and the strangers that can become partitions."""

from openqrm.contracts.partition import (
    AdoptPartition,
    AttachDisk,
    AttachNic,
    ChangePartition,
    CreatePartition,
    DeletePartition,
    DetachDisk,
    DetachNic,
    GetPartition,
    ListPartitions,
    ListStrangers,
    MapNic,
    MigratePartition,
    PausePartition,
    PinPartition,
    RebootPartition,
    ResizePartition,
    ShutdownPartition,
    StartPartition,
    StopPartition,
    UnpausePartition,
)
from openqrm.gateway.routes.nouns import Nouns

TAG = "partitions"
_REF = {"ref": "partition"}
_EXAMPLE = {
    "name": "web 1",
    "technology": "any",
    "memory_mib": 512,
    "vcpus": 2,
    "disks": [
        {"source": {"kind": "image", "image": "debian-12"}},
        {"source": {"kind": "blank", "size_mib": 4096}},
    ],
    "nics": [{"network": "default"}],
    "tags": ["shop"],
    "start": True,
}


def add(nouns: Nouns) -> None:
    """Add the routes."""
    nouns.many("/partitions", ListPartitions, tag=TAG)
    nouns.command("POST", "/partitions", CreatePartition, tag=TAG, examples=[_EXAMPLE])
    nouns.one("/partitions/{ref}", GetPartition, "partition", tag=TAG)
    nouns.command("PATCH", "/partitions/{ref}", ChangePartition, tag=TAG, from_path=_REF,
                  examples=[{"tags": ["shop", "ssd"]}])  # fmt: skip
    nouns.command("DELETE", "/partitions/{ref}", DeletePartition, tag=TAG, from_path=_REF, from_query=("force",))
    for verb, command in (
        ("start", StartPartition),
        ("stop", StopPartition),
        ("shutdown", ShutdownPartition),
        ("reboot", RebootPartition),
        ("pause", PausePartition),
        ("unpause", UnpausePartition),
        ("resize", ResizePartition),
        ("pin", PinPartition),
        ("migrate", MigratePartition),
    ):
        nouns.command("POST", f"/partitions/{{ref}}/{verb}", command, tag=TAG, from_path=_REF)
    nouns.command("POST", "/partitions/{ref}/nics", AttachNic, tag=TAG, from_path=_REF,
                  examples=[{"nic": {"network": "default"}}])  # fmt: skip
    nouns.command("DELETE", "/partitions/{ref}/nics/{mac}", DetachNic, tag=TAG, from_path={**_REF, "mac": "mac"})
    nouns.command("PUT", "/partitions/{ref}/nics/{mac}/network", MapNic, tag=TAG, from_path={**_REF, "mac": "mac"},
                  examples=[{"network": "backup"}])  # fmt: skip
    nouns.command("POST", "/partitions/{ref}/disks", AttachDisk, tag=TAG, from_path=_REF,
                  examples=[{"disk": {"source": {"kind": "blank", "size_mib": 1024}}}])  # fmt: skip
    nouns.command("DELETE", "/partitions/{ref}/disks/{target}", DetachDisk, tag=TAG,
                  from_path={**_REF, "target": "target"}, from_query=("keep",))  # fmt: skip

    nouns.many("/strangers", ListStrangers, tag="hosts")
    nouns.many("/hosts/{ref}/strangers", ListStrangers, tag="hosts", from_path={"ref": "host"})
    nouns.command("POST", "/hosts/{ref}/strangers/{id}/adopt", AdoptPartition, tag="hosts",
                  from_path={"ref": "host", "id": "partition_id"},
                  target=lambda values: str(values["partition_id"]))  # fmt: skip
