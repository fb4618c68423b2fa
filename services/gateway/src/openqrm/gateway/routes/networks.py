"""Networks."""

from openqrm.contracts.network import ChangeNetwork, CreateNetwork, DeleteNetwork, GetNetwork, ListNetworks
from openqrm.gateway.routes.nouns import Nouns

TAG = "networks"
_REF = {"ref": "network"}


def add(nouns: Nouns) -> None:
    """Add the routes."""
    nouns.many("/networks", ListNetworks, tag=TAG)
    nouns.command("POST", "/networks", CreateNetwork, tag=TAG, examples=[{"name": "default", "bridge": "br0"}])
    nouns.one("/networks/{ref}", GetNetwork, "network", tag=TAG)
    nouns.command("PATCH", "/networks/{ref}", ChangeNetwork, tag=TAG, from_path=_REF, examples=[{"bridge": "br1"}])
    nouns.command("DELETE", "/networks/{ref}", DeleteNetwork, tag=TAG, from_path=_REF)
