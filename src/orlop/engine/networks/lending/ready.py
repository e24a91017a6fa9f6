"""Namespaces on networks, set up ahead and used again: a start takes one without waiting.

    fresh -> lent -> (resting -> flushed) -> idle -> lent again, to its owner only
                  -> closed, where somebody may have changed it

A namespace costs 4 ms to make and 25 ms to take away (returns.py). Nothing in the file
system names these: they die with the engine, but for those that sandboxes are in.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from orlop.engine.context import Context
from orlop.engine.networks.attachment import Place
from orlop.engine.networks.directory import Directory
from orlop.engine.networks.host import Host
from orlop.engine.networks.lending.lendable import Kind, Lendable, kind_of
from orlop.engine.networks.lending.returns import Returns
from orlop.engine.networks.planning import Planner
from orlop.engine.networks.thread import NetworkThread
from orlop.engine.owner import open_process
from orlop.errors import NotFoundError, OrlopError
from orlop.model.container import Container
from orlop.model.network import Network
from orlop.model.pool import Stock, Tally
from orlop.network.plugged import Plugged

log = logging.getLogger(__name__)

_AHEAD = 8  # fresh ones of each kind
_MOST_KINDS = 4  # that have fresh ones
_MOST_IDLE = 256  # of all owners together
_MOST_OWN = 64
_REFILL_S = 0.05
_IDLE_S = 120.0
_LOOK_S = 20.0


class ReadyNetworks:
    """Used from the event loop. *sample* is a container that asks for no more than a network."""

    def __init__(
        self, context: Context, directory: Directory, planner: Planner, thread: NetworkThread
    ) -> None:
        self._context = context
        self._directory = directory
        self._planner = planner
        self._thread = thread
        self._fresh: dict[Kind, list[Lendable]] = {}  # the latest use last
        self._samples: dict[Kind, tuple[Container, Mapping[str, str], float]] = {}
        self._idle: dict[tuple[str, Kind], list[Lendable]] = {}  # by owner
        self._lent: dict[str, Lendable] = {}  # by container
        self._making: dict[asyncio.Future[None], Place] = {}
        self._owners: dict[str, int] = {}  # pidfds
        self._returns = Returns(context, planner, thread, keep=self._keep)
        self._waiters = 0
        self._refilling: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._tally = Tally()
        context.telemetry.pools["ready_networks"] = self._stock

    @property
    def waiting(self) -> int:
        """How many can be had at once, by whom they are for."""
        return sum(map(len, (*self._fresh.values(), *self._idle.values())))

    def _stock(self) -> Stock:
        most = _MOST_IDLE + _AHEAD * _MOST_KINDS
        return self._tally.stock(ready=self.waiting, most=most)

    async def take(
        self, container: Container, network: Network, sysctls: Mapping[str, str], *, again: bool
    ) -> Lendable:
        """Hand one out for *container*, made now if none waits.

        After it that may be used *again*, by the container's owner.
        """
        kind = kind_of(container, network)
        self._samples.pop(kind, None)  # to be the latest
        self._samples[kind] = (container, sysctls, _now())
        owner = self._watched(container.options.owner) if again else ""
        self._waiters += 1
        found = self._find(owner, kind, network)
        self._tally.count(hit=found is not None)
        try:
            while found is None:
                making = self._make(network, container, sysctls)
                await asyncio.shield(self._context.spawn(making))
                found = self._find(owner, kind, network)
        finally:
            self._waiters -= 1
        found.owner = owner
        self._lent[container.id] = found
        self._refill_soon()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._trim)
        return found

    def _find(self, owner: str, kind: Kind, network: Network) -> Lendable | None:
        idle = self._idle.get((owner, kind), []) if owner else []
        for waiting in (idle, self._fresh.setdefault(kind, [])):
            while waiting:
                found = waiting.pop()
                found.sent = found.plugged.sent()
                if found.sent is not None and found.place.network == network:
                    return found
                self._returns.close(found)
        return None

    async def _make(self, network: Network, sample: Container, sysctls: Mapping[str, str]) -> None:
        """Make one, which whoever comes first gets."""
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
        self._fresh.setdefault(kind, []).append(Lendable(kind, place, plugged))

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
        for kind in [one for one in {**self._samples, **self._fresh} if one.network in networks]:
            self._drop_fresh(kind)
        for key in [key for key in self._idle if key[1].network in networks]:
            for found in self._idle.pop(key):
                self._returns.close(found)
        for found in (*self._lent.values(), *self._returns.resting):
            if found.place.network.id in networks:
                found.owner = ""

    def _drop_fresh(self, kind: Kind) -> None:
        self._samples.pop(kind, None)
        for found in self._fresh.pop(kind, ()):
            self._returns.close(found)

    async def surrender(self, network_id: str, address: str) -> None:
        """Let somebody have an *address* whom nobody has yet."""
        await self._returns.surrender(network_id, address)
        if making := [it for it, place in self._making.items() if place.is_at(network_id, address)]:
            await asyncio.wait(making)
        held: list[Lendable] = []
        for some in (*self._fresh.values(), *self._idle.values()):
            for found in [one for one in some if one.place.is_at(network_id, address)]:
                some.remove(found)
                held.append(found)
        for found in held:
            await self._returns.drop(found)

    def close(self) -> None:
        """Let go of all; what sandboxes are in stays, with them."""
        if self._look is not None:
            self._look.cancel()
        self._returns.close_all()
        for some in (*self._fresh.values(), *self._idle.values(), self._lent.values()):
            for one in some:
                one.plugged.close()
        for owner in list(self._owners):
            self._unwatch(owner)
        self._fresh.clear()
        self._idle.clear()
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
        for key in [key for key in self._idle if key[0] == owner]:
            for found in self._idle.pop(key):
                self._returns.close(found)

    def _keep(self, found: Lendable) -> None:
        idle = self._idle.setdefault((found.owner, found.kind), [])
        is_room = len(idle) < _MOST_OWN and self.waiting < _MOST_IDLE
        if found.owner in self._owners and is_room:
            found.since_s = _now()
            idle.append(found)
        else:
            self._returns.close(found)

    def _trim(self) -> None:
        """Close what nobody has wanted in a while."""
        self._look = None
        oldest = _now() - _IDLE_S
        for key, idle in list(self._idle.items()):
            while idle and idle[0].since_s < oldest:  # the latest is taken first
                self._returns.close(idle.pop(0))
            if not idle:
                del self._idle[key]
        for kind in [key for key, (_, _, used_s) in self._samples.items() if used_s < oldest]:
            self._drop_fresh(kind)
        lent = (*self._lent.values(), *self._returns.resting)
        used = {key[0] for key in self._idle} | {one.owner for one in lent}
        for owner in self._owners.keys() - used:
            self._unwatch(owner)
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
            self._drop_fresh(next(iter(self._samples)))
        for kind in list(self._samples):
            while len(self._fresh.get(kind, ())) < _AHEAD:
                network, sample = self._directory.get(kind.network), self._samples.get(kind)
                if network is None or sample is None:
                    break
                if self._waiters:
                    await asyncio.sleep(_REFILL_S)
                    continue
                try:
                    await self._make(network, *sample[:2])
                except OrlopError as error:  # a start will tell whoever asks
                    log.info("no network made ahead", extra={"why": str(error)})
                    return


def _now() -> float:
    return asyncio.get_running_loop().time()
