"""Hosts."""

from openqrm.contracts.host import (
    ActivateHost,
    ChangeHost,
    EnrolHost,
    GetHost,
    ListHosts,
    MaintainHost,
    PrepareHost,
    RemoveHost,
)
from openqrm.gateway.routes.nouns import Nouns

TAG = "hosts"
_REF = {"ref": "host"}
_EXAMPLE = {
    "name": "kvm1",
    "technology": "qemu",
    "connection": {"uri": "qemu+ssh://root@kvm1/system"},
    "tags": ["rack-4"],
    "prepare": True,
}


def add(nouns: Nouns) -> None:
    """Add the routes."""
    nouns.many("/hosts", ListHosts, tag=TAG)
    nouns.command("POST", "/hosts", EnrolHost, tag=TAG, examples=[_EXAMPLE])
    nouns.one("/hosts/{ref}", GetHost, "host", tag=TAG)
    nouns.command("PATCH", "/hosts/{ref}", ChangeHost, tag=TAG, from_path=_REF, examples=[{"cpu_overcommit": 2.0}])
    nouns.command("DELETE", "/hosts/{ref}", RemoveHost, tag=TAG, from_path=_REF, from_query=("force",))
    nouns.command("POST", "/hosts/{ref}/prepare", PrepareHost, tag=TAG, from_path=_REF)
    nouns.command("POST", "/hosts/{ref}/maintain", MaintainHost, tag=TAG, from_path=_REF)
    nouns.command("POST", "/hosts/{ref}/activate", ActivateHost, tag=TAG, from_path=_REF)
