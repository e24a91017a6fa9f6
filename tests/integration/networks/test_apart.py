"""Containers that are apart exchange packets with the host, and none with their neighbours."""

import asyncio
import json
from pathlib import Path

import pytest

from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError
from orlop.model.container import Container
from orlop.model.network import EndpointOptions
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import opened, run_and_die, with_engine
from tests.integration.networks.egress.arrivals import straying
from tests.integration.networks.egress.frames import Host, forged, letter, question, to_neighbor
from tests.integration.networks.egress.world import HERE, box, bridges_filter, inside, said
from tests.integration.networks.scenes import address, ask, made, on, serve

_SUBNETS = ("10.1.0.0/24", "fd01::/64")
_APART = on(a=EndpointOptions(driver_options={"icc": "false"}))
_TOGETHER = on(a=EndpointOptions())
_RAW = {"cap_add": ("NET_RAW", "NET_ADMIN")}
_PORTS = {"7000/tcp": (("", "7000"),), "7000/udp": (("", "7000"),)}
_GATEWAYS = ("10.1.0.1", "fd01::1")
_SPOOFING = on(a=EndpointOptions(driver_options={"icc": "false", "spoofing": "true"}))

both_ways = pytest.mark.parametrize("filtered", ["0", "1"], ids=["switched", "br_netfilter"])


@pytest.fixture(autouse=True)
def _bridges_filter_nothing() -> None:
    bridges_filter("0")


def _host(container: Container) -> Host:
    return Host(container.endpoints[0].mac, address(container), address(container, version=6))


async def _gateway(bridge: str) -> Host:
    (link,) = json.loads(await said(HERE, "ip", "-json", "link", "show", bridge))
    return Host(link["address"], "10.1.0.1", "fd01::1")


async def _arrived(sender: Container, peer: Container, bridge: str) -> set[str]:
    """Return which of all frames come to *peer*, once a later one has come to the host."""
    own, other, gateway = _host(sender), _host(peer), await _gateway(bridge)
    frames = to_neighbor(own, other) | forged(own, other, gateway) | {"end": question(own, other)}
    last = letter(own, gateway, gateway)
    return await straying(sender, frames, last, f"/proc/{peer.pid}/ns/net")


@both_ways
@pytest.mark.parametrize(
    ("sender", "peer"),
    [(_APART, _TOGETHER), (_TOGETHER, _APART), (_APART, _APART), (_SPOOFING, _TOGETHER)],
    ids=["from", "to", "among", "spoofing"],
)
def test_no_frame_comes_from_or_to_a_container_that_is_apart(
    tmp_path: Path, filtered: str, sender: dict[str, EndpointOptions], peer: object
) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        bridge = name_of(await made(engine, "a", *_SUBNETS))
        there = await box(engine, "peer", "a", networks=peer)
        here = await box(engine, "sender", "a", networks=sender, **_RAW)
        assert await _arrived(here, there, bridge) == set()

    with_engine(tmp_path, work, timeout_s=200)


@both_ways
def test_a_container_that_is_apart_is_reached_by_published_ports_alone(
    tmp_path: Path, filtered: str
) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        await made(engine, "a", *_SUBNETS)
        server = await serve(engine, "server", "a", networks=_APART, port_bindings=_PORTS)
        peers = [
            await box(engine, name, "a", networks=networks)
            for name, networks in (("one", _APART), ("two", _TOGETHER))
        ]
        for peer in peers:
            assert await _answers(peer, *_GATEWAYS) == {f"server to {one}" for one in _GATEWAYS}
        assert not await _reached(server, peers)

    with_engine(tmp_path, work, timeout_s=300)


@both_ways
def test_a_container_that_is_apart_reaches_no_neighbour_but_the_host_and_the_host_it(
    tmp_path: Path, filtered: str
) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        await made(engine, "a", *_SUBNETS)
        plain = await serve(engine, "plain", "a")
        other = await box(engine, "other", "a")
        apart = await serve(engine, "apart", "a", networks=_APART)
        assert not await _reached(plain, [apart])
        own = address(plain)
        assert await _answers(other, own) == {f"plain to {address(other)}"}
        assert await _answers(None, address(apart)) == {f"apart to {_GATEWAYS[0]}"}
        assert await _answers(apart, *_GATEWAYS) == {f"{g}: Connection refused" for g in _GATEWAYS}

    with_engine(tmp_path, work, timeout_s=300)


def test_rules_that_somebody_flushed_keep_apart_again(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        bridge = name_of(await made(engine, "a", *_SUBNETS))
        peer = await box(engine, "peer", "a")
        sender = await box(engine, "sender", "a", networks=_APART, **_RAW)
        before = await said(HERE, "nft", "--stateless", "list", "ruleset")
        await said(HERE, "nft", "flush", "ruleset")
        async with asyncio.timeout(60):
            while await said(HERE, "nft", "--stateless", "list", "ruleset") != before:
                await asyncio.sleep(0.05)
        assert await _arrived(sender, peer, bridge) == set()

    with_engine(tmp_path, work, timeout_s=200)


def test_containers_are_apart_after_the_engine_was_killed(tmp_path: Path) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", *_SUBNETS)
        await serve(engine, "peer", "a")
        await box(engine, "sender", "a", networks=_APART, **_RAW)

    async def second() -> None:
        async with opened(tmp_path) as engine:
            peer, sender = engine.containers.get("peer"), engine.containers.get("sender")
            bridge = next(name_of(one) for one in engine.networks.list() if one.name == "a")
            assert await _arrived(sender, peer, bridge) == set()
            assert not await _reached(peer, [sender])

    run_and_die(tmp_path, first)
    asyncio.run(second())


def test_nobody_is_apart_on_a_network_that_cannot_see_to_it(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", driver="macvlan")
        with pytest.raises(InvalidArgumentError, match="icc=false does not go with network a"):
            await box(engine, "one", "a", networks=_APART)
        wrong = on(a=EndpointOptions(driver_options={"icc": "maybe"}))
        with pytest.raises(InvalidArgumentError, match="icc is neither true nor false"):
            await box(engine, "two", "a", networks=wrong)

    with_engine(tmp_path, work)


async def _reached(server: Container, peers: list[Container]) -> set[str]:
    """Return what the peers hear from the server: by the bridge, and then by way of the host."""
    own = [address(server, version=version) for version in (4, 6)]
    heard: set[str] = set()
    for is_routed in (False, True):
        if is_routed:
            for peer in peers:
                for to, gateway in zip(own, _GATEWAYS, strict=True):
                    await _route(peer, to, gateway)
        asked = [_answers(peer, one) for peer in peers for one in own]
        heard |= set.union(*await asyncio.gather(*asked))
    return {one for one in heard if " to " in one}


async def _answers(who: Container | None, *hosts: str) -> set[str]:
    """Return what it, or this host, is told on port 7000 of *hosts*, by TCP and by UDP."""
    answers = await asyncio.to_thread(ask, *hosts, where=inside(who) if who else HERE)
    return {one.replace("::ffff:", "") for one in answers}


async def _route(who: Container, to: str, gateway: str) -> None:
    where = ["nsenter", f"--net=/proc/{who.pid}/ns/net"]
    await said(where, "ip", "route", "add", to, "via", gateway)
