"""A host that may only be sent TCP, to one port, gets nothing else: no tunnel begins there."""

import json
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.model.container import Container
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import with_engine
from tests.integration.networks.egress.arrivals import arriving
from tests.integration.networks.egress.frames import Host, past_a_port, segment
from tests.integration.networks.egress.world import (
    ADDRESS,
    ADDRESS6,
    HERE,
    World,
    box,
    bridges_filter,
    inside,
    said,
    tries,
)
from tests.integration.networks.scenes import address, made

_PORT = 7000
_LISTED = {"the ports that are listed", "what follows"}  # put together, TCP to that port
#: What the host drops: a part that is there already, and parts of what is never whole.
_NEVER = {"other ports", "TCP's second part", "UDP after them"}


@pytest.mark.parametrize("listed", ["an address", "a name"])
def test_a_port_of_tcp_opens_no_other_protocol(tmp_path: Path, outside: World, listed: str) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter("0")
        bridge = name_of(await made(engine, "a", "10.1.0.0/24", "fd01::/64"))
        entries: tuple[str, ...] = ("plain.example:7000",)
        if listed == "an address":
            entries = (f"{ADDRESS}:{_PORT}", f"[{ADDRESS6}]:{_PORT}")
        held = await box(engine, "held", "a", entries)
        free = await box(engine, "free", "a", cap_add=("NET_RAW",))
        (link,) = json.loads(await said(HERE, "ip", "-json", "link", "show", bridge))
        gateway = Host(link["address"], "10.1.0.1", "fd01::1")
        world = Host("", ADDRESS, ADDRESS6)
        await tries(HERE, *(f"tcp/{one}/7000" for one in world[1:]))  # or frames wait for its MAC
        if listed == "a name":
            assert await tries(inside(held), "tcp/plain.example/7000") == ["open"]
        for sender in (held, free):
            frames = past_a_port(_host(sender), gateway, world, _PORT)
            end = {outside.path: segment(_host(sender), gateway, world, _PORT)}
            expected = _LISTED if sender is held else {*frames} - _NEVER
            assert await arriving(sender, frames, end, enough=expected) == expected

    with_engine(tmp_path, work, timeout_s=300)


def _host(container: Container) -> Host:
    return Host(container.endpoints[0].mac, address(container), address(container, version=6))
