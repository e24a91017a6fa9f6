"""Turns: starts that are under way at once, and in which order the others follow.

More at once than processors can work on would only make each one slower. Who asks for much
does not keep out who asks for little: owners take turns, each with its oldest start.
"""

import asyncio
from collections import OrderedDict, deque

from orlop.errors import ExhaustedError, UnavailableError


class Turns:
    """*at_once* may be under way, and *most_waiting* wait for that."""

    def __init__(self, *, at_once: int, most_waiting: int = 4096) -> None:
        self._free = at_once
        self._most_waiting = most_waiting
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    async def take(self, owner: str) -> None:
        """Wait for a turn of *owner*'s; give_back() is then the caller's.

        Raises:
            ExhaustedError: "busy", as too many wait already.
        """
        if self._free:
            self._free -= 1
            return
        if self.waiting >= self._most_waiting:
            raise ExhaustedError(
                f"the engine is busy: {self.waiting} starts are waiting", hint="try again later"
            )
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it was given just now
            raise

    def drop(self, owner: str) -> None:
        """Have those of *owner*'s that wait get none: it is gone."""
        for turn in self._queues.pop(owner, ()):
            self.waiting -= 1
            if not turn.done():
                turn.set_exception(UnavailableError(f"process {owner} has ended"))

    def give_back(self) -> None:
        """Let the next have it."""
        while self._queues:
            owner, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues[owner] = queue  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
