"""Which frames that a container makes itself come to light, and where."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from orlop.model.container import Container
from tests.integration.names.scene import run_in
from tests.integration.networks.egress.frames import mark

_ALL = 3  # ETH_P_ALL
_PATIENCE_S = 60


@contextmanager
def open_frames(path: str) -> Iterator[socket.socket]:
    """Give a socket for whole frames on eth0 of a network namespace."""
    namespace = os.open(path, os.O_RDONLY)
    try:

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            made.bind(("eth0", _ALL))
            made.setblocking(False)
            return made

        with run_in(namespace, make) as made:
            yield made
    finally:
        os.close(namespace)


def _arrived(seen: socket.socket, names: list[str]) -> set[str]:
    """Return which frames have come to *seen*, whole or as a datagram."""
    found: set[str] = set()
    while True:
        try:
            frame, address = seen.recvfrom(4096)
        except BlockingIOError:
            return found
        if seen.family != socket.AF_PACKET or address[2] != socket.PACKET_OUTGOING:
            found |= {name for name in names if mark(name) in frame}


class Sender(Protocol):
    """Who has a process in the network namespace that frames are sent from."""

    @property
    def pid(self) -> int | None: ...


async def arriving(
    sender: Sender, frames: dict[str, bytes], ends: dict[str, bytes], *, enough: set[str]
) -> set[str]:
    """Send *frames*, and after them one to each of *ends*, by namespace; return what came.

    What comes after all others is sent again until it has come, and what is *enough*.
    """
    names = [*frames, "end"]
    with ExitStack() as stack:
        seen = {path: stack.enter_context(open_frames(path)) for path in ends}
        here = stack.enter_context(_datagrams())
        own = stack.enter_context(open_frames(f"/proc/{sender.pid}/ns/net"))
        for frame in frames.values():
            own.send(frame)
        found = {path: set[str]() for path in ends}
        on_host: set[str] = set()
        async with asyncio.timeout(_PATIENCE_S):
            while not all("end" in one for one in found.values()) or not enough <= _all(
                found, on_host
            ):
                for path, end in ends.items():
                    own.send(end)
                    found[path] |= _arrived(seen[path], names)
                await asyncio.sleep(0.05)
                on_host |= _arrived(here, names)
    return _all(found, on_host)


async def straying(
    sender: Container, frames: dict[str, bytes], last: bytes, where: str
) -> set[str]:
    """Send *frames*, and then the *last*, which this host gets; return which came to *where*.

    The last has the mark of "end"; it is sent again until it has come.
    """
    with ExitStack() as stack:
        seen = stack.enter_context(open_frames(where))
        here = stack.enter_context(_datagrams())
        own = stack.enter_context(open_frames(f"/proc/{sender.pid}/ns/net"))
        for frame in frames.values():
            own.send(frame)
        async with asyncio.timeout(_PATIENCE_S):
            while not _arrived(here, ["end"]):
                own.send(last)
                await asyncio.sleep(0.05)
        return _arrived(seen, list(frames))


def _datagrams() -> socket.socket:
    """Return a socket that gets what comes to port 7000 of this host."""
    here = socket.socket(type=socket.SOCK_DGRAM)
    here.bind(("0.0.0.0", 7000))
    here.setblocking(False)
    return here


def _all(found: dict[str, set[str]], on_host: set[str]) -> set[str]:
    return set.union(on_host, *found.values()) - {"end"}
