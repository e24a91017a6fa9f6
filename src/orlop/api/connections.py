"""How many connections a listening socket has, and how long they may be silent."""

import asyncio
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple, Protocol

from orlop.errors import ExhaustedError


class Limits(NamedTuple):
    """What clients of one listening socket may have."""

    most: int = 4096  # connections
    most_of_one: int = 2048  # of them one client's: a process, or an address
    head_s: float = 30.0  # from a request's first byte to the end of its headers
    silent_s: float = 300.0  # without a request


class Places:
    """Counts connections: *most* in all, *most_of_one* of one client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._taken: Counter[Hashable] = Counter()
        self._total = 0

    @property
    def are_full(self) -> bool:
        """Whether no client can have another one."""
        return self._total >= self._most

    def are_full_for(self, client: Hashable) -> bool:
        """Whether *client* can have no other one."""
        return self.are_full or self._taken[client] >= self._most_of_one

    def take(self, client: Hashable) -> None:
        """Count one more; ExhaustedError where there are too many, in all or of *client*."""
        if self.are_full_for(client):
            raise ExhaustedError(
                f"the engine is busy: {self._total} connections,"
                f" {self._taken[client]} of this program",
                hint="close some",
            )
        self._taken[client] += 1
        self._total += 1

    def give_back(self, client: Hashable) -> None:
        """Count one less."""
        self._total -= 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]


class Silent(Protocol):
    """A connection without a request."""

    @property
    def client(self) -> Hashable:
        """Who is at the other end."""

    def abort(self) -> None:
        """Close now; the connection gives its place back."""


class Admission:
    """Counts the connections of one socket, and closes silent ones.

    A client may always close a connection without a request, and so may we (RFC 9112, 9.5).
    So when there is no place for a new one, the connection that was silent for longest goes.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = Places(limits.most, limits.most_of_one)
        self._silent: dict[Silent, float] = {}  # and when each is closed; the oldest first
        self._sweep: asyncio.TimerHandle | None = None
        self._pause_s = min(limits.head_s, limits.silent_s) / 4

    def take(self, client: Hashable) -> None:
        """Count a connection; ExhaustedError where all others have requests."""
        if self._places.are_full_for(client):
            self._make_room(client)
        self._places.take(client)

    def give_back(self, client: Hashable) -> None:
        self._places.give_back(client)

    def _make_room(self, client: Hashable) -> None:
        anybody = self._places.are_full
        for one in self._silent:
            if anybody or one.client == client:
                one.abort()
                return

    def wait_for_request(self, connection: Silent) -> None:
        """Close *connection* if no request begins for a while."""
        loop = asyncio.get_running_loop()
        self._silent[connection] = loop.time() + self._limits.silent_s
        if self._sweep is None:
            self._sweep = loop.call_later(self._pause_s, self._close_late)

    def wait_for_headers(self, connection: Silent) -> None:
        """Close *connection* if the headers that have begun do not end for a while."""
        now = asyncio.get_running_loop().time()
        self._silent[connection] = now + self._limits.head_s

    def stop_waiting(self, connection: Silent) -> None:
        """Let *connection* take its time, because there is a request, or it has ended."""
        self._silent.pop(connection, None)

    def _close_late(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for late in [one for one, at in self._silent.items() if at <= now]:
            late.abort()
            self._silent.pop(late, None)
        if self._silent:
            self._sweep = loop.call_later(self._pause_s, self._close_late)

    def close(self) -> None:
        """Close nothing any more."""
        if self._sweep is not None:
            self._sweep.cancel()
