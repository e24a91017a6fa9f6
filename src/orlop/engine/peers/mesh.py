"""One network's hosts, seen from this one: which are connected, and their endpoints.

Every member is connected to every other. membership.py (who owns which addresses) and view.py
(the tunnel's state) make all decisions; this file carries them out.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from orlop.engine.peers import membership as steps
from orlop.engine.peers import messages
from orlop.engine.peers.books import Books
from orlop.engine.peers.channel import Channel, dial
from orlop.engine.peers.exchange import Exchange
from orlop.engine.peers.host import Host, Store
from orlop.engine.peers.links import Link, Links, Timing
from orlop.engine.peers.view import View
from orlop.errors import CorruptError, OrlopError, UnavailableError
from orlop.model.network import Network
from orlop.model.overlay import HostEndpoint, Member, Membership, Peering

log = logging.getLogger(__name__)

_RETRY_S = 1.0


class Mesh:
    """For one event loop; `start` it, and `close` it, which tells nobody."""

    def __init__(
        self,
        network: Network,
        membership: Membership,
        *,
        host: Host,
        store: Store,
        timing: Timing,
    ) -> None:
        self.network = network
        self.books = Books(membership, store)
        self.links = Links()
        self.addresses = Exchange(self.books, self.links, network=network, host=host, timing=timing)
        self.view = View(subnet.subnet for subnet in network.subnets)
        self._host, self.timing = host, timing
        self._instance = secrets.token_hex(8)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, float] = {}  # when each member was last heard
        self._answering: set[str] = set()  # hosts that answer, although no engine runs there
        self._begun = time.monotonic()
        self._dirty = asyncio.Event()
        self._applied: Peering | None = None
        self._applier: asyncio.Task[None] | None = None

    @property
    def membership(self) -> Membership:
        return self.books.membership

    @property
    def me(self) -> Member:
        return self.membership.members[self.membership.me]

    @property
    def secret(self) -> bytes:
        return bytes.fromhex(self.membership.secret)

    def start(self) -> None:
        """Start connecting to the other members; a second time is no error."""
        if self._applier is None:
            self._applier = self._spawn(self._apply_changes())
        self._keep_all()

    async def close(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in self.links:
            self.links.leave(link)

    def put(self, endpoint: HostEndpoint) -> None:
        """Announce a local endpoint to all members. Repeating an announcement has no effect."""
        if self.view.local.get(endpoint.mac) != endpoint:
            self.view.local[endpoint.mac] = endpoint
            self.links.send(messages.Change(put=(endpoint,)))
            self._dirty.set()

    def drop(self, mac: str) -> None:
        """Announce to all members that an endpoint is gone."""
        if self.view.local.pop(mac, None) is not None:
            self.links.send(messages.Change(drop=(mac,)))
            self._dirty.set()

    def peering(self) -> Peering:
        """Return the current state for the tunnel."""
        members = list(steps.others(self.membership))
        expired = [member.id for member in members if self.is_expired(member.id)]
        whole = all(self.view.has_heard(m.id) or m.id in expired for m in members)
        return self.view.peering(members, expired, is_whole=whole)

    def is_expired(self, member: str) -> bool:
        """Whether its host has not answered for so long that nothing is sent there."""
        if member in self.links or member in self._answering:
            return False
        return time.monotonic() - self._seen.get(member, self._begun) > self.timing.forget_s

    def again(self) -> None:
        """Pass the whole state to the tunnel again, because somebody has changed it."""
        self._applied = None
        self._dirty.set()

    # Connections

    async def serve(self, channel: Channel) -> None:
        """Serve a peer that has dialed us and knows the secret, until it disconnects."""
        first = await self._first(channel)
        if isinstance(first, messages.Fetch):
            channel.send(messages.Config(network=self.network, member=self.me))
            await channel.finish()
        elif isinstance(first, messages.Hello):
            channel.send(messages.Hello(member=self.me, instance=self._instance))
            with contextlib.suppress(OrlopError, TimeoutError):
                await self._converse(channel, first, dialer=first.member.id)

    async def _first(self, channel: Channel) -> messages.AnyMessage | None:
        try:
            async with asyncio.timeout(self.timing.answer_s):
                return await channel.receive()
        except (OrlopError, TimeoutError):
            channel.close()
            return None

    def _keep_all(self) -> None:
        """Make sure that there is a link to each member, or an attempt."""
        for member in steps.others(self.membership):
            keeper = self._keepers.get(member.id)
            if keeper is None or keeper.done():
                self._keepers[member.id] = self._spawn(self._keep(member.id))

    async def _keep(self, member: str) -> None:
        is_first = self.membership.me < member  # the other one waits for us for a moment
        delay = 0.0 if is_first else self.timing.redial_s
        while not self.membership.members[member].left:
            link = self.links.get(member)
            if link is not None:
                await link.closed.wait()
                delay = 0.0 if is_first else self.timing.redial_s
            await asyncio.sleep(delay)
            if member not in self.links and await self._dial(self.membership.members[member]):
                delay = 0.0
            delay = min(self.timing.slowest_redial_s, 2 * delay + self.timing.redial_s)

    async def _dial(self, member: Member) -> bool:
        """Stay connected to *member* for as long as possible; False if it cannot be reached."""
        try:
            async with asyncio.timeout(self.timing.answer_s):
                address = (member.address, member.port)
                channel = await dial(address, self.network.id, self.secret, local=self.me.address)
                channel.send(messages.Hello(member=self.me, instance=self._instance))
                hello = await channel.receive()
        except ConnectionRefusedError:  # the host is up without its engine: containers keep running
            self._answering.add(member.id)
            return False
        except (OSError, TimeoutError, OrlopError):
            self._answering.discard(member.id)
            self._dirty.set()
            return False
        is_it = isinstance(hello, messages.Hello) and hello.member.id == member.id
        if isinstance(hello, messages.Hello) and is_it:
            with contextlib.suppress(OrlopError, TimeoutError):
                await self._converse(channel, hello, dialer=self.membership.me)
        channel.close()
        return is_it

    async def _converse(self, channel: Channel, hello: messages.Hello, *, dialer: str) -> None:
        member = hello.member.id
        known = self.membership.members.get(member)
        if member == self.membership.me or hello.member.left or (known and known.left):
            channel.close()
            return
        link = Link(member, hello.instance, dialer=dialer, channel=channel)
        if not self.links.admit(link):
            channel.close()
            return
        pinging = self._spawn(self._ping(link))
        try:
            await self._introduce(link, hello.member)
            while True:
                async with asyncio.timeout(self.timing.silent_s):
                    message = await channel.receive()
                self._seen[member] = time.monotonic()
                await self._heard(link, message)
        except CorruptError as error:
            log.warning("a peer is cut off", extra={"peer": member, "why": str(error)})
            raise
        finally:
            pinging.cancel()
            self.links.leave(link)
            self._dirty.set()
            await self.books.notify()

    async def _introduce(self, link: Link, member: Member) -> None:
        """Send it everything that we know, and announce it to the others."""
        self._seen[member.id] = time.monotonic()
        self._answering.discard(member.id)
        self.view.begin(member.id)
        async with self.books.lock:
            await self._merge((member,), told_by="")
        if member.id not in self.membership.members:
            raise UnavailableError("the network has as many members as it can have")
        link.send(messages.Members(members=self._gossip()))
        for part in messages.parts(self.view.local.values()):
            link.send(part)
        for gift in self.membership.gifts:
            if gift.to == member.id:
                link.send(messages.Gift(number=gift.number, range=gift.range))
        log.info("peer connected", extra={"network": self.network.name, "peer": member.address})
        await self.books.notify()

    def _gossip(self) -> tuple[Member, ...]:
        """Return the members to announce: the current ones, and the last that left."""
        members = list(self.membership.members.values())
        here = [member for member in members if not member.left]
        left = [member for member in members if member.left]
        return (*here, *left[-(messages.MOST_MEMBERS - len(here)) :])[: messages.MOST_MEMBERS]

    async def _ping(self, link: Link) -> None:
        while True:
            await asyncio.sleep(self.timing.ping_s)
            link.send(messages.Ping(number=0))

    # Messages from others

    async def _heard(self, link: Link, message: messages.AnyMessage) -> None:
        match message:
            case messages.Members(members=members):
                async with self.books.lock:
                    await self._merge(members, told_by=link.member)
            case messages.State():
                if self.view.state(link.member, message):
                    self._dirty.set()
            case messages.Change():
                self.view.change(link.member, message)
                self._dirty.set()
            case messages.Ask() | messages.Gift() | messages.Refused() | messages.Taken():
                await self.addresses.heard(link, message)
            case messages.Ping(number=number):
                link.send(messages.Pong(number=number))
            case messages.Pong(number=number):
                link.pongs = max(link.pongs, number)
                await self.books.notify()

    async def _merge(self, heard: Iterable[Member], *, told_by: str) -> None:
        before = self.membership
        await self.books.commit(steps.merged(before, heard))
        if self.membership.owned != before.owned:  # gifts that a leaving member never took
            self._host.own(self.network.id, self.membership.owned)
        known = before.members
        news = tuple(m for m in self.membership.members.values() if known.get(m.id) != m)
        if not news:
            return
        self.links.send(messages.Members(members=news[: messages.MOST_MEMBERS]), but=told_by)
        for member in news:
            link = self.links.get(member.id)
            if member.left:
                self.view.forget(member.id)
                self._answering.discard(member.id)
                if link is not None:
                    link.channel.close()
        self._keep_all()
        self._dirty.set()

    # Internal

    async def part(self) -> None:
        """Leave: give all addresses to another member and announce it. Waits for a member."""
        await self.books.settle("leaving")
        for mac in list(self.view.local):
            self.drop(mac)
        await self.addresses.part()

    async def _apply_changes(self) -> None:
        """Pass changes to the tunnel, and notice members that are silent for too long."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_look_s()):
                    await self._dirty.wait()
            self._dirty.clear()
            peering = self.peering()
            if peering == self._applied or self.membership.status != "member":
                continue
            try:
                await self._host.apply(self.network.id, peering)
                self._applied = peering
            except (OSError, OrlopError) as error:
                log.warning("a tunnel is not up to date", extra={"why": str(error)})
                await asyncio.sleep(_RETRY_S)
                self._dirty.set()

    def _next_look_s(self) -> float | None:
        """Return when to check again without a message: only while a member is missing."""
        missed = [m.id for m in steps.others(self.membership) if m.id not in self.links]
        return self.timing.forget_s / 4 if missed else None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a peer's task failed", exc_info=error)
