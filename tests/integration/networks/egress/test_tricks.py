"""A sandbox that makes its frames itself reaches nobody either."""

import json
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.model.container import Container
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import with_engine
from tests.integration.networks.egress.arrivals import arriving
from tests.integration.networks.egress.frames import (
    Host,
    letter,
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

_WORLD, _LISTED = Host("", ADDRESS, ADDRESS6), Host("", OTHER, OTHER6)
_SUBNETS = ("10.1.0.0/24", "fd01::/64")
#: What even from a container without a list does not arrive: the host drops it.
_NEVER = {"source route"}


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_no_frame_gets_around_a_list(tmp_path: Path, outside: World, filtered: str) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        bridge = name_of(await made(engine, "a", *_SUBNETS, options={"spoofing": "true"}))
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
            assert await arriving(sender, frames, ends, enough=expected) == expected

    with_engine(tmp_path, work, timeout_s=300)


def _host(container: Container) -> Host:
    return Host(container.endpoints[0].mac, address(container), address(container, version=6))
