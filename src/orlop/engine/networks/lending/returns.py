"""What becomes of namespaces that sandboxes had: they rest until they are as new, or go.

In the background, and a few at a time: to take a veth away costs the kernel 25 ms, and
many together little more.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from orlop.engine.context import Context
from orlop.engine.networks.host import Host
from orlop.engine.networks.lending.lendable import Lendable
from orlop.engine.networks.planning import Planner
from orlop.engine.networks.thread import NetworkThread
from orlop.network.firewall import flows

log = logging.getLogger(__name__)

_MOST_RESTING = 256
_PAUSE_S = 0.02
_REST_S = 2.0  # until the sockets of who has ended are gone
_BATCH = 32
_CLOSE_S = 0.25  # from one batch to the next
_GOING_S = 5.0


class Returns:
    """*keep* is called with each that may be used again."""

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


def _now() -> float:
    return asyncio.get_running_loop().time()
