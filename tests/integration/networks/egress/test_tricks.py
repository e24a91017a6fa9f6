"""A sandbox that makes its frames itself reaches nobody either."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.model.container import Container
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import with_engine
from tests.integration.names.scene import run_in
from tests.integration.networks.egress.frames import (
    Host,
    letter,
    mark,
    question,
    to_host,
    to_neighbor,
    to_world,
)
from tests.integration.networks.egress.world import (
    ADDRESS,
    ADDRESS6,
    HERE,
    OTHER,
    OTHER6,
    World,
    box,
    bridges_filter,
    said,
    tries,
)
from tests.integration.networks.scenes import address, made

_ALL = 3  # ETH_P_ALL
_WORLD, _LISTED = Host("", ADDRESS, ADDRESS6), Host("", OTHER, OTHER6)
#: What even from a container without a list does not arrive: the host drops it.
_NEVER = {"source route"}
_PATIENCE_S = 60


@contextmanager
def _open(path: str) -> Iterator[socket.socket]:
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


async def _arriving(
    box: Container, frames: dict[str, bytes], ends: dict[str, bytes], *, enough: set[str]
) -> set[str]:
    """Send *frames*, and after them one to each of *ends*, by namespace; return what came.

    What comes after all others is sent again until it has come, and what is *enough*.
    """
    names = [*frames, "end"]
    with ExitStack() as stack:
        seen = {path: stack.enter_context(_open(path)) for path in ends}
        here = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        here.bind(("0.0.0.0", 7000))
        here.setblocking(False)
        own = stack.enter_context(_open(f"/proc/{box.pid}/ns/net"))
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


def _all(found: dict[str, set[str]], on_host: set[str]) -> set[str]:
    return set.union(on_host, *found.values()) - {"end"}


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_no_frame_gets_around_a_list(tmp_path: Path, outside: World, filtered: str) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        bridge = name_of(await made(engine, "a", "10.1.0.0/24", "fd01::/64"))
        peer = await box(engine, "peer", "a")
        held = await box(engine, "held", "a", (_LISTED.ip, _LISTED.ip6))
        free = await box(engine, "free", "a")
        (link,) = json.loads(await said(HERE, "ip", "-json", "link", "show", bridge))
        gateway, other = Host(link["address"], "10.1.0.1", "fd01::1"), _host(peer)
        known = (
            ADDRESS,
            ADDRESS6,
            OTHER,
            OTHER6,
            other.ip,
            other.ip6,
        )  # or frames wait for a MAC address
        await tries(HERE, *(f"tcp/{host}/7000" for host in known))
        for sender in (held, free) if filtered == "0" else (held,):
            own = _host(sender)
            frames = to_neighbor(own, other) | to_host(own, gateway)
            frames |= to_world(own, gateway, other, _WORLD, _LISTED)
            ends = {
                f"/proc/{peer.pid}/ns/net": question(own, other),
                outside.path: letter(own, gateway, _LISTED),
            }
            expected = set() if sender is held else {*frames} - _NEVER
            assert await _arriving(sender, frames, ends, enough=expected) == expected

    with_engine(tmp_path, work, timeout_s=300)


def _host(container: Container) -> Host:
    return Host(container.endpoints[0].mac, address(container), address(container, version=6))
