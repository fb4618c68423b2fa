"""Subject to handler: everything that inventory consumes, answers and hears. No logic."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from openqrm.bus.consumer import Handler
from openqrm.bus.delivery import Delivery
from openqrm.bus.lanes import Together
from openqrm.contracts.dead_letter import DiscardMessage, ListDeadLetters, MessageDeadLettered, ReplayMessage
from openqrm.contracts.execution import ExecutionFailed, ExecutionProgressed, ExecutionSucceeded
from openqrm.contracts.host import (
    ActivateHost,
    ChangeHost,
    EnrolHost,
    GetHost,
    HostConnected,
    HostDisconnected,
    HostFailed,
    HostHeartbeat,
    HostObserved,
    ListHosts,
    MaintainHost,
    PrepareHost,
    RemoveHost,
)
from openqrm.contracts.ids import is_id
from openqrm.contracts.image import DeleteImage, GetImage, ListImages, RegisterImage
from openqrm.contracts.mac import AllocateMac, ListMacs, ReleaseMac
from openqrm.contracts.message import Command, Event, Message, Query, Sample
from openqrm.contracts.network import ChangeNetwork, CreateNetwork, DeleteNetwork, GetNetwork, ListNetworks
from openqrm.contracts.operation import CancelOperation, GetOperation, ListOperations
from openqrm.contracts.partition import (
    AdoptPartition,
    CreatePartition,
    GetPartition,
    GetPlacement,
    ListPartitions,
    ListStrangers,
    PartitionObserved,
)
from openqrm.contracts.placement import ListPlacements
from openqrm.contracts.resource import GetResource, ListResources
from openqrm.contracts.technology import ExecutorAnnounced, ListTechnologies
from openqrm.inventory.domain.superseding import superseded
from openqrm.inventory.flows import adoption, creation, hosts, partitions
from openqrm.inventory.handlers import (
    dead_letter,
    execution,
    host,
    image,
    mac,
    network,
    observation,
    operation,
    partition,
)
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.views import dead_letter as dead_letter_views
from openqrm.inventory.views import host as host_views
from openqrm.inventory.views import image as image_views
from openqrm.inventory.views import mac as mac_views
from openqrm.inventory.views import network as network_views
from openqrm.inventory.views import operation as operation_views
from openqrm.inventory.views import partition as partition_views
from openqrm.inventory.views import placement as placement_views
from openqrm.inventory.views import resource as resource_views

COMMANDS: dict[type[Command], Callable[[Inventory, Any], Awaitable[None]]] = {
    CreatePartition: creation.create_partition,
    AdoptPartition: adoption.adopt_partition,
    **dict.fromkeys(partition.PLANS, partitions.submit),
    EnrolHost: hosts.enrol_host,
    PrepareHost: hosts.submit,
    MaintainHost: hosts.submit,
    ActivateHost: hosts.submit,
    ChangeHost: hosts.submit,
    RemoveHost: hosts.submit,
    CreateNetwork: network.create_network,
    ChangeNetwork: network.change_network,
    DeleteNetwork: network.delete_network,
    RegisterImage: image.register_image,
    DeleteImage: image.delete_image,
    CancelOperation: operation.cancel_operation,
    ReplayMessage: dead_letter.replay_message,
    DiscardMessage: dead_letter.discard_message,
}

EVENTS: dict[type[Event], Callable[[Inventory, Any, Delivery], Awaitable[None]]] = {
    ExecutionSucceeded: execution.execution_succeeded,
    ExecutionFailed: execution.execution_failed,
    ExecutorAnnounced: observation.executor_announced,
    HostConnected: observation.host_connected,
    HostDisconnected: observation.host_disconnected,
    HostObserved: observation.host_observed,
    HostFailed: host.host_failed,
    PartitionObserved: observation.partition_observed,
    MessageDeadLettered: dead_letter.message_dead_lettered,
}

_SEEN = frozenset({HostConnected, HostDisconnected, HostObserved, PartitionObserved})

SAMPLES: dict[type[Sample], Callable[[Inventory, Any], Awaitable[None]]] = {
    HostHeartbeat: observation.host_heartbeat,
    ExecutionProgressed: execution.execution_progressed,
}

QUERIES: dict[type[Query[Any]], Callable[[Inventory, Any], Awaitable[Any]]] = {
    AllocateMac: mac.allocate_mac,
    ReleaseMac: mac.release_mac,
    ListMacs: mac_views.list_macs,
    ListTechnologies: mac_views.list_technologies,
    GetPartition: partition_views.get_partition,
    ListPartitions: partition_views.list_partitions,
    ListStrangers: partition_views.list_strangers,
    GetPlacement: partition_views.get_placement,
    ListPlacements: placement_views.list_placements,
    GetHost: host_views.get_host,
    ListHosts: host_views.list_hosts,
    GetNetwork: network_views.get_network,
    ListNetworks: network_views.list_networks,
    GetImage: image_views.get_image,
    ListImages: image_views.list_images,
    GetResource: resource_views.get_resource,
    ListResources: resource_views.list_resources,
    GetOperation: operation_views.get_operation,
    ListOperations: operation_views.list_operations,
    ListDeadLetters: dead_letter_views.list_dead_letters,
}


def command_handlers(inventory: Inventory) -> dict[type[Message], Handler]:
    """The commands' handlers, as the bus calls them."""

    def handler(use_case: Callable[[Inventory, Any], Awaitable[None]]) -> Handler:
        async def handle(command: Command, delivery: Delivery) -> None:
            if "operation_id" not in command.model_fields_set:
                # Made up anew each time that the message is read; the message's own id stays the same.
                command = command.model_copy(update={"operation_id": _operation_id(delivery)})
            await use_case(inventory, command)

        return handle

    return {model: handler(use_case) for model, use_case in COMMANDS.items()}


def event_handlers(inventory: Inventory) -> dict[type[Message], Handler]:
    """The events' handlers, as the bus calls them."""
    return {model: partial(handle, inventory) for model, handle in EVENTS.items()}


def together(inventory: Inventory) -> Together:
    """What executors tell of one host is taken in order; what they saw of its partitions, together when it waits."""
    return Together(host_lane, PartitionObserved, superseded, partial(observation.partitions_observed, inventory))


def host_lane(event: Any) -> UUID | None:
    """The host of an event that says what an executor sees by itself."""
    host_id: UUID | None = event.host_id if type(event) in _SEEN else None
    return host_id


def _operation_id(delivery: Delivery) -> UUID:
    """The id of an operation whose sender gave it none."""
    if is_id(delivery.message_id):
        return UUID(delivery.message_id)
    return uuid5(NAMESPACE_URL, f"urn:openqrm:message:{delivery.message_id}")


def command_key(command: Any) -> str | None:
    """Commands on the same thing are taken in the order in which they came, as long as they name it alike."""
    noun = command.subject.split(".")[0]
    thing = getattr(command, noun, None) or getattr(command, "name", None)
    return f"{noun} {thing}" if thing else None


def event_key(event: Any) -> str | None:
    """Reports about the same thing are taken in the order in which they came."""
    about = getattr(event, "partition_id", None) or getattr(event, "host_id", None)
    return str(about) if about else None
