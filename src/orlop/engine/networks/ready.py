"""A pool of network namespaces that are connected already: a start takes one without waiting.

    fresh -> lent -> (resting -> flushed) -> idle -> lent again, to its owner only
                  -> closed, if somebody may have changed it

A namespace takes 4 ms to make and 25 ms to remove. It has no name in the file system: it
ends with the engine, unless a sandbox is in it.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.networks.attachment import Place
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.host import Host
from orlop.engine.networks.planning import Planner
from orlop.engine.networks.thread import NetworkThread
from orlop.engine.owner import open_process
from orlop.errors import NotFoundError, OrlopError
from orlop.model.container import Container
from orlop.model.network import EndpointOptions, Network
from orlop.model.pool import ObjectPool
from orlop.network.firewall import flows
from orlop.network.options import NEIGHBOURS
from orlop.network.plugged import Plugged

log = logging.getLogger(__name__)

_PLAIN = (EndpointOptions(), EndpointOptions(driver_options={NEIGHBOURS: "false"}))
_AHEAD = 8  # fresh ones of each kind
_MOST_KINDS = 4  # that have fresh ones
_MOST = 288  # of all kinds and owners together
_MOST_OWN = 64  # of one kind
_REFILL_S = 0.05
_IDLE_S = 120.0
_LOOK_S = 20.0
_MOST_RESTING = 256
_PAUSE_S = 0.02
_REST_S = 2.0  # until the sockets of who has ended are gone
_BATCH = 32
_CLOSE_S = 0.25  # from one batch to the next
_GOING_S = 5.0


class Kind(NamedTuple):
    """What a sandbox asks of a namespace: all of a kind are alike."""

    network: str  # its id
    wanted: int  # of _PLAIN
    owner: str = ""  # who has used them; "" for fresh ones


class _Sample(NamedTuple):
    """How fresh ones of a kind are made."""

    container: Container
    sysctls: Mapping[str, str]
    used_s: float


class Lendable:
    """One namespace of the pool."""

    def __init__(self, kind: Kind, place: Place, plugged: Plugged) -> None:
        self.kind = kind
        self.place = place
        self.plugged = plugged
        self.owner = ""  # who may have it again; "" for nobody
        self.sent: int | None = 0  # packets, before it was handed out
        self.since_s = 0.0  # it rests, or goes
        self.leased = True  # its address is ours to give back


class ReadyNetworks:
    """The pool, used from the event loop: fresh namespaces, and each owner's used ones."""

    def __init__(
        self, context: Context, directory: Directory, planner: Planner, thread: NetworkThread
    ) -> None:
        self._context = context
        self._directory = directory
        self._planner = planner
        self._thread = thread
        self._returns = Returns(context, planner, thread, keep=self._keep)
        self._pool = ObjectPool(
            end=self._returns.close, check=_is_there, size=_MOST, each=_MOST_OWN, ahead=_AHEAD
        )
        self._samples: dict[Kind, _Sample] = {}  # the latest use last
        self._lent: dict[str, Lendable] = {}  # by container
        self._making: dict[asyncio.Future[None], Place] = {}
        self._owners: dict[str, int] = {}  # pidfds
        self._waiters = 0
        self._refilling: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        context.telemetry.pools["ready_networks"] = lambda: self._pool.stock

    async def take(
        self, container: Container, network: Network, sysctls: Mapping[str, str], *, again: bool
    ) -> Lendable:
        """Hand one out for *container*, made now if none waits.

        After it that may be used *again*, by the container's owner.
        """
        fresh = kind_of(container, network)
        self._samples.pop(fresh, None)  # to be the latest
        self._samples[fresh] = _Sample(container, sysctls, _now())
        owner = self._watched(container.options.owner) if again else ""
        kinds = (fresh._replace(owner=owner), fresh) if owner else (fresh,)
        self._waiters += 1
        try:
            found = self._find(kinds, network)
            while found is None:
                making = self._make(network, container, sysctls)
                await asyncio.shield(self._context.spawn(making))
                found = self._find(kinds, network, again=True)
        finally:
            self._waiters -= 1
        found.owner = owner
        self._lent[container.id] = found
        self._refill_soon()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._trim)
        return found

    def _find(
        self, kinds: Sequence[Kind], network: Network, *, again: bool = False
    ) -> Lendable | None:
        while (found := self._pool.take(*kinds, again=again)) is not None:
            if found.place.network == network:
                return found
            self._returns.close(found)
        return None

    async def _make(self, network: Network, sample: Container, sysctls: Mapping[str, str]) -> bool:
        """Make one, for whoever comes first; return whether the pool has room for it."""
        nobody = replace(sample, id=secrets.token_hex(32))
        endpoints = self._planner.all(nobody)
        place = Place(network, endpoints[0])
        made = asyncio.get_running_loop().create_future()
        self._making[made] = place
        try:
            plugged = await self._plug(place, sysctls)
        except BaseException:
            self._planner.give_back(endpoints)
            raise
        finally:
            del self._making[made]
            made.set_result(None)
        kind = kind_of(sample, network)
        self._pool.want(kind)
        return self._pool.put(Lendable(kind, place, plugged), kind)

    async def _plug(self, place: Place, sysctls: Mapping[str, str]) -> Plugged:
        plugged = await self._thread.call(Host.plug, place, sysctls)
        if self._directory.get(place.network.id) is None:  # removed: its bridge is there again
            plugged.close()
            await self._thread.call(Host.remove, place.network)
            raise NotFoundError(f"network {place.network.name} not found")
        return plugged

    def lent(self, container_id: str) -> Lendable | None:
        """Return what a container has of these."""
        return self._lent.get(container_id)

    def ended(self, container_id: str, *, as_it_was: bool, called: bool = False) -> None:
        """Take back what a container had; *as_it_was*: it could not change it, and is gone.

        *called*: somebody may have reached it, and never had an answer.
        """
        lent = self._lent.pop(container_id, None)
        if lent is None:
            return
        sent = lent.plugged.sent()
        if not as_it_was or sent is None or lent.owner not in self._owners:
            self._returns.close(lent)
        elif sent == lent.sent and not called and lent.plugged.is_quiet():
            self._keep(lent)
        else:
            self._returns.rest(lent)

    def give_up(self, container_id: str) -> None:
        """Leave it to who gives back all that the container's record says it has."""
        lent = self._lent.pop(container_id, None)
        if lent is not None:
            lent.leased = False
            self._returns.close(lent)

    def distrust(self) -> None:
        """Use nothing again that is lent now: who is in it may live on for a while."""
        for lent in self._lent.values():
            lent.owner = ""

    def forget(self, networks: Sequence[str]) -> None:
        """Let go of all that waits on networks whose devices have gone, or are to go."""
        self._forget(lambda kind: kind.network in networks)
        for found in (*self._lent.values(), *self._returns.resting):
            if found.place.network.id in networks:
                found.owner = ""

    def _forget(self, which: Callable[[Kind], bool]) -> None:
        for kind in self._kinds():
            if which(kind):
                self._samples.pop(kind, None)
                self._pool.forget(kind)

    def _kinds(self) -> list[Kind]:
        return [kind for kind in self._pool.kinds if isinstance(kind, Kind)]

    async def surrender(self, network_id: str, address: str) -> None:
        """Let somebody have an *address* whom nobody has yet."""
        await self._returns.surrender(network_id, address)
        if making := [it for it, place in self._making.items() if place.is_at(network_id, address)]:
            await asyncio.wait(making)
        for found in self._pool.withdraw(lambda one: one.place.is_at(network_id, address)):
            await self._returns.drop(found)

    def close(self) -> None:
        """Let go of all; what sandboxes are in stays, with them."""
        if self._look is not None:
            self._look.cancel()
        self._returns.close_all()
        for one in (*self._pool.withdraw(lambda _: True), *self._lent.values()):
            one.plugged.close()
        for owner in list(self._owners):
            self._unwatch(owner)
        self._lent.clear()

    # Who may have them again

    def _watched(self, owner: str) -> str:
        """Return *owner*, whose end is heard of from now on; "" where it cannot be."""
        if owner not in self._owners:
            process = open_process(owner)
            if process is None:
                return ""
            self._owners[owner] = process
            asyncio.get_running_loop().add_reader(process, self._gone, owner)
        return owner

    def _unwatch(self, owner: str) -> None:
        process = self._owners.pop(owner)
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)

    def _gone(self, owner: str) -> None:
        self._unwatch(owner)
        self._forget(lambda kind: kind.owner == owner)

    def _keep(self, found: Lendable) -> None:
        if found.owner not in self._owners:
            self._returns.close(found)
            return
        kind = found.kind._replace(owner=found.owner)
        self._pool.want(kind)
        self._pool.put(found, kind)

    def _trim(self) -> None:
        """Close what nobody has wanted in a while."""
        self._look = None
        for kind in self._kinds():
            if kind.owner:
                self._pool.trim(_IDLE_S, kind)
        oldest_s = _now() - _IDLE_S
        wanted = {kind for kind, sample in self._samples.items() if sample.used_s >= oldest_s}
        some = (*self._pool, *self._lent.values(), *self._returns.resting)
        for owner in self._owners.keys() - {one.owner for one in some}:
            self._unwatch(owner)
        self._forget(lambda kind: kind.owner not in self._owners and kind not in wanted)
        if self._owners or self._samples:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._trim)

    # In the background

    def _refill_soon(self) -> None:
        if self._refilling is None or self._refilling.done():
            self._refilling = self._context.spawn(self._refill())

    async def _refill(self) -> None:
        """Make some ahead, one at a time, whenever nobody waits."""
        await asyncio.sleep(_REFILL_S)
        while len(self._samples) > _MOST_KINDS:
            oldest = next(iter(self._samples))
            self._forget(oldest.__eq__)
        for kind in list(self._samples):
            while self._pool.missing(kind) > 0:
                network, sample = self._directory.get(kind.network), self._samples.get(kind)
                if network is None or sample is None:
                    break
                if self._waiters:
                    await asyncio.sleep(_REFILL_S)
                    continue
                try:
                    if not await self._make(network, sample.container, sample.sysctls):
                        return
                except OrlopError as error:  # a start will tell whoever asks
                    log.info("no network made ahead", extra={"why": str(error)})
                    return


class Returns:
    """Namespaces that sandboxes had: they rest until they are as good as new, or go.

    That is done in the background and in batches: many veths together take the kernel little
    longer to remove than one. *keep* is called with each that may be used again.
    """

    def __init__(
        self,
        context: Context,
        planner: Planner,
        thread: NetworkThread,
        *,
        keep: Callable[[Lendable], None],
    ) -> None:
        self._context = context
        self._planner = planner
        self._thread = thread
        self._keep = keep
        self._resting: list[Lendable] = []
        self._looked_at: list[Lendable] = []  # of those; the thread's meanwhile
        self._closing: list[Lendable] = []
        self._going: list[Lendable] = []  # closed, and their interfaces yet to go
        self._tending: asyncio.Task[None] | None = None

    @property
    def resting(self) -> Sequence[Lendable]:
        """Those that may be used again soon."""
        return (*self._resting, *self._looked_at)

    def rest(self, found: Lendable) -> None:
        """Have it kept once nothing is left in it; or closed, if that takes too long."""
        if len(self._resting) >= _MOST_RESTING:
            self.close(found)
            return
        found.since_s = _now()
        self._resting.append(found)
        self._tend()

    def close(self, found: Lendable) -> None:
        """Let go of it, soon, and give its address back."""
        self._closing.append(found)
        self._tend()

    async def surrender(self, network_id: str, address: str) -> None:
        """Let go of what has the address, now."""
        while self._tending is not None and _having(self._looked_at, network_id, address):
            await asyncio.wait({self._tending}, timeout=_PAUSE_S)
        held: list[Lendable] = []
        for some in (self._resting, self._closing, self._going):
            for found in _having(some, network_id, address):
                some.remove(found)
                held.append(found)
        for found in held:
            await self.drop(found)

    async def drop(self, found: Lendable) -> None:
        """Let go of it, now, with its address."""
        found.plugged.close()
        await self._thread.call(Host.unplug, [found.place])
        if found.leased:
            self._planner.give_back((found.place.endpoint,))

    def close_all(self) -> None:
        """Let go of all, with the engine."""
        for found in (*self.resting, *self._closing):
            found.plugged.close()

    def _tend(self) -> None:
        if self._tending is None or self._tending.done():
            self._tending = self._context.spawn(self._run())

    async def _run(self) -> None:
        """See to them until there are none."""
        closed_s = 0.0
        while self._resting or self._looked_at or self._closing or self._going:
            await asyncio.sleep(_PAUSE_S)
            await self._wake()
            if _now() - closed_s >= _CLOSE_S:
                closed_s = _now()
                await self._free()
                self._part_with_some()

    async def _wake(self) -> None:
        """Keep those whose sockets are gone, once nobody knows of their connections."""
        self._looked_at, self._resting = self._resting[:_BATCH], self._resting[_BATCH:]
        if not self._looked_at:
            return
        calm = await self._thread.call(Host.calm, [one.plugged for one in self._looked_at])
        quiet = [one for one in self._looked_at if one.plugged in calm]
        forgotten = await self._flush(quiet)
        looked_at, self._looked_at = self._looked_at, []
        late = _now() - _REST_S
        for one in looked_at:
            if one in quiet and forgotten:
                self._keep(one)
            elif one in quiet or one.since_s < late:
                self.close(one)
            else:
                self._resting.append(one)

    def _part_with_some(self) -> None:
        batch, self._closing = self._closing[:_BATCH], self._closing[_BATCH:]
        for one in batch:
            one.plugged.close()
            one.since_s = _now()
        self._going += batch

    async def _free(self) -> None:
        """Give addresses back whose interfaces are gone: until then they answer to them.

        Who holds a socket of one keeps it; then it is taken away.
        """
        if not (going := list(self._going)):
            return
        there = await self._thread.call(Host.there, [one.place for one in going])
        late = [one for one in going if one.place in there and one.since_s < _now() - _GOING_S]
        gone = [one for one in going if one.place not in there or one in late]
        await self._thread.call(Host.unplug, [one.place for one in gone])
        await self._flush(gone)
        for one in gone:
            if one in self._going:  # else it was surrendered meanwhile
                self._going.remove(one)
                if one.leased:
                    self._planner.give_back((one.place.endpoint,))

    async def _flush(self, some: Sequence[Lendable]) -> bool:
        """Have the host forget connections of their addresses; return whether it does."""
        addresses = [address for one in some for address in one.place.addresses]
        if not addresses:
            return True
        try:
            await self._thread.call(_forget, addresses)
        except OSError as error:
            log.info("connections cannot be forgotten", extra={"why": str(error)})
            return False
        return True


def _having(some: Sequence[Lendable], network_id: str, address: str) -> list[Lendable]:
    return [found for found in some if found.place.is_at(network_id, address)]


def _forget(_: Host, addresses: Sequence[str]) -> None:
    flows.forget_addresses(addresses)


def is_plain(wanted: EndpointOptions) -> bool:
    """Whether some can be made ahead for those who ask for this."""
    return wanted in _PLAIN


def kind_of(container: Container, network: Network) -> Kind:
    """Return the kind that a container is to have, whose options are plain."""
    return Kind(network.id, _PLAIN.index(container.options.networks[network.name]))


def _is_there(found: Lendable) -> bool:
    """Note what its interface has sent; False if somebody has removed that."""
    found.sent = found.plugged.sent()
    return found.sent is not None


def _now() -> float:
    return asyncio.get_running_loop().time()
