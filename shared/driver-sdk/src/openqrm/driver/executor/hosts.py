"""The hosts that an executor looks after: learned from inventory's list, then from events, the newest by revision."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError

from openqrm.bus.follow import Followed, Follower
from openqrm.bus.streams import EVENTS
from openqrm.contracts.errors import NotFoundError, PermanentError, ProblemCode, TemporaryError
from openqrm.contracts.host import GetHost, HostEvent, HostRemoved, HostView, ListHosts
from openqrm.contracts.message import all_messages, message_for
from openqrm.contracts.paging import MAX_PAGE, Paging
from openqrm.contracts.partition import ObservedPartition
from openqrm.contracts.states import HostState
from openqrm.driver.capabilities import Host
from openqrm.driver.executor.cancelling import end
from openqrm.driver.executor.supervisor import HostSupervisor, Surroundings

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0


class Hosts:
    """One supervisor for each host of the technology that was not removed."""

    def __init__(self, technology: str, surroundings: Surroundings, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called when NATS has lost its store, with whatever was told before."""
        self._technology = technology
        self._around = surroundings
        self._bus = surroundings.bus
        self._supervisors: dict[UUID, HostSupervisor] = {}
        self._revisions: dict[UUID, int] = {}
        """Of removed hosts as well, so that an old event does not bring one back."""
        self._follower: Follower | None = None
        self._task: asyncio.Task[None] | None = None
        self._learned = asyncio.Event()
        self._list_again = asyncio.Event()
        self._on_lost = on_lost
        self._log = structlog.get_logger(service=self._bus.service)

    def __len__(self) -> int:
        return len(self._supervisors)

    def get(self, host_id: UUID) -> HostSupervisor | None:
        """The supervisor of a host; None when it is not known."""
        return self._supervisors.get(host_id)

    def note(self, host_id: UUID, partition_id: UUID, observed: ObservedPartition | None) -> None:
        """Tell a host's supervisor what an execution has just seen, so that it is not reported as a change."""
        if supervisor := self._supervisors.get(host_id):
            supervisor.note(partition_id, observed)

    @property
    def are_known(self) -> bool:
        """Whether inventory's list was read once."""
        return self._learned.is_set()

    def start(self) -> None:
        """Begin to learn, in the background: inventory may start after this executor."""
        self._task = asyncio.create_task(self._learn(), name="learn hosts")

    async def stop(self) -> None:
        """Let go of all hosts."""
        await end([self._task])
        if self._follower:
            await self._bus.unfollow(self._follower)
            self._follower = None
        supervisors, self._supervisors = self._supervisors, {}
        await asyncio.gather(*(supervisor.stop() for supervisor in supervisors.values()))

    # -------------------------------------------------------------------------------------------- learning

    async def _learn(self) -> None:
        # The events are followed first, then the list is read; nothing is lost in between, since whichever of the two
        # has the newer revision counts.
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                if self._follower is None:
                    self._follower = await self._bus.follow(
                        EVENTS, self._on_event, subjects=_host_event_subjects(), on_anew=self._tell_all_again
                    )
                await self._list()
            except (TemporaryError, PermanentError, NatsError, TimeoutError) as error:
                self._log.warning("the hosts cannot be listed yet; trying again", reason=str(error), seconds=delay)
                await self._around.clock.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY_SECONDS)
                continue
            if not self._learned.is_set():
                self._log.info("hosts are known", hosts=len(self._supervisors))
                self._learned.set()
            delay = FIRST_RETRY_SECONDS
            await self._until_it_is_time()

    async def _until_it_is_time(self) -> None:
        with suppress(TimeoutError), self._around.deadlines.limit(self._around.settings.relist_interval):
            await self._list_again.wait()
        self._list_again.clear()

    async def _tell_all_again(self) -> None:
        """NATS lost its store: inventory may have missed what was told, and we what it told."""
        self._log.warning("telling again what every host is and has")
        self._on_lost()
        for supervisor in self._supervisors.values():
            supervisor.tell_again()
        self._list_again.set()

    async def _list(self) -> None:
        known_before = set(self._supervisors)
        listed: set[UUID] = set()
        cursor: str | None = None
        while True:
            page = await self._bus.request(
                ListHosts(technology=self._technology, paging=Paging(limit=MAX_PAGE, cursor=cursor))
            )
            for view in page.items:
                listed.add(view.id)
                self._take(view)
            cursor = page.next_cursor
            if cursor is None:
                break
        # One that is missing was removed unheard, or moved between two pages by a new name: asked one by one.
        for host_id in known_before - listed:
            await self._ask(host_id)

    async def _ask(self, host_id: UUID) -> None:
        try:
            self._take(await self._bus.request(GetHost(host=str(host_id))))
        except PermanentError as error:
            if not (isinstance(error, NotFoundError) or error.code is ProblemCode.NOT_FOUND):
                raise
            await self._remove(host_id)

    async def _on_event(self, followed: Followed) -> None:
        model = message_for(followed.subject)
        if model is None or not issubclass(model, HostEvent):
            return
        try:
            self._take(model.model_validate_json(followed.body).host, removed=issubclass(model, HostRemoved))
        except ValidationError as error:
            self._log.error("an event about a host cannot be read", subject=followed.subject, error=str(error))

    def _take(self, view: HostView, removed: bool = False) -> None:
        if view.technology != self._technology or view.revision <= self._revisions.get(view.id, -1):
            return
        self._revisions[view.id] = view.revision
        supervisor = self._supervisors.get(view.id)
        if removed or view.state is HostState.REMOVED:
            if supervisor:
                self._around.spawn(self._remove(view.id))
            return
        host = Host(view.id, view.name, view.connection)
        if supervisor is None:
            self._supervisors[view.id] = supervisor = HostSupervisor(host, self._around)
            supervisor.start(view.state)
        else:
            supervisor.update(host, view.state)

    async def _remove(self, host_id: UUID) -> None:
        if supervisor := self._supervisors.pop(host_id, None):
            self._log.info("a host was removed", host=supervisor.host.name)
            await supervisor.stop()


def _host_event_subjects() -> tuple[str, ...]:
    return tuple(sorted(subject for subject, model in all_messages().items() if issubclass(model, HostEvent)))
