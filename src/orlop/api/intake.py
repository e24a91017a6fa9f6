"""Admission control for client requests: each program has its share, the rest waits.

A program is a process, with any number of connections. Waiting requests stay in its sockets,
and cost the engine nothing.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable

from orlop.api.connections import Places
from orlop.engine.owner import open_process

_AT_ONCE = 16  # a program's messages in one round of the loop
_BYTES_AT_ONCE = 1 << 16  # after these its turn ends
_CONNECTIONS = 2  # one connection for this many descriptors of the engine's limit
_REQUESTS = 16


class Intake:
    """All connected programs; *most_open* is the engine's limit of descriptors."""

    def __init__(self, most_open: int, *, gone: Callable[[str], None]) -> None:
        """*gone* is called with each owner that has ended."""
        most = most_open // _CONNECTIONS
        self._places = Places(most, -(-3 * most // 4))
        self._most_requests = max(2, most_open // _REQUESTS)
        self._gone = gone
        self._shares: dict[str, Share] = {}
        self._under_way = 0
        self._waiting: OrderedDict[Share, None] = OrderedDict()

    @property
    def held_back(self) -> int:
        """How many connections are not read until a request is done."""
        return sum(len(share.waiting) for share in self._waiting)

    def join(self, owner: str, ended: Callable[[], None]) -> "Share":
        """Add a connection of *owner*'s; *ended* is called when that process ends.

        Raises:
            ExhaustedError: there are too many, in all or of this program.
        """
        self._places.take(owner)
        share = self._shares.get(owner) or Share(self, owner)
        self._shares[owner] = share
        share.ended[ended] = None
        if len(share.ended) == 1:
            share.open()
        return share

    def _leave(self, share: "Share") -> None:
        self._places.give_back(share.owner)
        self._forget(share)

    def _forget(self, share: "Share") -> None:
        if not share.ended and not share.under_way and self._shares.get(share.owner) is share:
            del self._shares[share.owner]
            self._waiting.pop(share, None)

    def _is_full(self, share: "Share") -> bool:
        most = self._most_requests
        return self._under_way >= most or 2 * share.under_way >= most

    def _done(self, share: "Share") -> None:
        """Let one waiting connection continue, of each program in turn."""
        self._under_way -= 1
        self._forget(share)
        for other in (share, *self._waiting):
            while other.waiting and not self._is_full(other):
                self._waiting.move_to_end(other)
                go_on, _ = other.waiting.popitem(last=False)
                if not other.waiting:
                    del self._waiting[other]
                if go_on():
                    return


class Share:
    """The share of one program."""

    def __init__(self, intake: Intake, owner: str) -> None:
        self.owner = owner
        self.ended: dict[Callable[[], None], None] = {}  # one for each connection
        self.under_way = 0  # requests in progress
        self.waiting: OrderedDict[Callable[[], bool], None] = OrderedDict()
        self._intake = intake
        self._process: int | None = None
        self._messages = self._bytes = 0  # in this round

    def open(self) -> None:
        """Watch the process, because a child may have inherited its connections."""
        self._process = open_process(self.owner)
        if self._process is not None:
            asyncio.get_running_loop().add_reader(self._process, self._has_ended)

    def _has_ended(self) -> None:
        for ended in list(self.ended):
            ended()
        self._intake._gone(self.owner)

    def leave(self, ended: Callable[[], None]) -> None:
        """Remove a connection."""
        del self.ended[ended]
        if not self.ended and self._process is not None:
            asyncio.get_running_loop().remove_reader(self._process)
            os.close(self._process)
            self._process = None
        self._intake._leave(self)

    @property
    def has_had_turn(self) -> bool:
        """Whether others have their turn before more of this program is read."""
        return self._messages >= _AT_ONCE or self._bytes >= _BYTES_AT_ONCE

    @property
    def is_full(self) -> bool:
        """Whether nothing is read until a request is done: see wait()."""
        return self._intake._is_full(self)

    def wait(self, go_on: Callable[[], bool]) -> None:
        """Call *go_on* when there is room; it returns whether it uses it."""
        self.waiting[go_on] = None
        self._intake._waiting[self] = None

    def begin(self, size: int) -> None:
        """Count a request of *size* bytes; the caller calls done()."""
        if not self._messages:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._messages += 1
        self._bytes += size
        self.under_way += 1
        self._intake._under_way += 1

    def _next_round(self) -> None:
        self._messages = self._bytes = 0

    def done(self) -> None:
        """Note that a request is done."""
        self.under_way -= 1
        self._intake._done(self)
