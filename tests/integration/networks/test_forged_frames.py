"""What containers with raw sockets send in the name of others reaches nobody."""

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
from tests.integration.networks.egress.arrivals import arriving
from tests.integration.networks.egress.frames import Host, claim, forged, question, to_neighbor
from tests.integration.networks.egress.world import HERE, box, bridges_filter, said, tries
from tests.integration.networks.scenes import address, made, on

_SUBNETS = ("10.1.0.0/24", "fd01::/64")
#: What has the sender's own addresses.
_OWN = {
    *("plain", "broadcast", "multicast", "a fragment", "long ARP"),
    *("IPv6", "IPv6 multicast", "link-local", "ping", "MLD", "long ND"),
}
#: What the host holds back where it filters bridged frames: the rest never comes.
_INCOMPLETE = {"a fragment"}
_RAW = {"cap_add": ("NET_RAW", "NET_ADMIN")}


@pytest.fixture(autouse=True)
def _bridges_filter_nothing() -> None:
    bridges_filter("0")


def _host(container: Container) -> Host:
    return Host(container.endpoints[0].mac, address(container), address(container, version=6))


async def _sent(sender: Container, peer: Container, bridge: str, *, enough: set[str]) -> set[str]:
    """Return which of all frames reach *peer*."""
    (link,) = json.loads(await said(HERE, "ip", "-json", "link", "show", bridge))
    own, other = _host(sender), _host(peer)
    frames = to_neighbor(own, other) | forged(own, other, Host(link["address"], "", "fd01::1"))
    ends = {f"/proc/{peer.pid}/ns/net": question(own, other)}
    return await arriving(sender, frames, ends, enough=enough)


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_a_neighbour_gets_only_frames_with_the_senders_own_addresses(
    tmp_path: Path, filtered: str
) -> None:
    async def work(engine: Engine) -> None:
        bridges_filter(filtered)
        bridge = name_of(await made(engine, "a", *_SUBNETS))
        peer, sender = await box(engine, "peer", "a"), await box(engine, "sender", "a", **_RAW)
        wanted = _OWN if filtered == "0" else _OWN - _INCOMPLETE
        assert await _sent(sender, peer, bridge, enough=wanted) == wanted

    with_engine(tmp_path, work, timeout_s=200)


def test_the_host_does_not_learn_from_a_container_where_its_neighbour_is(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        bridge = name_of(await made(engine, "a", *_SUBNETS))
        peer, sender = await box(engine, "peer", "a"), await box(engine, "sender", "a", **_RAW)
        (link,) = json.loads(await said(HERE, "ip", "-json", "link", "show", bridge))
        own, gateway = _host(sender), Host(link["address"], "10.1.0.1", "fd01::1")
        Path(f"/proc/sys/net/ipv4/neigh/{bridge}/locktime").write_text("0")  # learn at once
        await tries(HERE, f"tcp/{address(peer)}/7000")
        frames = {"claim": claim(own, address(peer), gateway)}
        ends = {f"/proc/{peer.pid}/ns/net": question(own, _host(peer))}
        await arriving(sender, frames, ends, enough=set())
        told = await said(HERE, "ip", "-json", "neighbour", "show", address(peer), "dev", bridge)
        assert [one["lladdr"] for one in json.loads(told)] == [_host(peer).mac]

    with_engine(tmp_path, work, timeout_s=200)


@pytest.mark.parametrize("where", ["network", "endpoint", "privileged"])
def test_a_container_sends_as_others_where_that_was_asked_for(tmp_path: Path, where: str) -> None:
    async def work(engine: Engine) -> None:
        asked = {"spoofing": "true"}
        network = await made(engine, "a", *_SUBNETS, options=asked if where == "network" else {})
        peer = await box(engine, "peer", "a")
        endpoint = EndpointOptions(driver_options=asked if where == "endpoint" else {})
        rights = {"privileged": True} if where == "privileged" else _RAW
        sender = await box(engine, "sender", "a", networks=on(a=endpoint), **rights)
        enough = {"a stranger's MAC", "another's address", "ARP for the gateway"}
        assert enough <= await _sent(sender, peer, name_of(network), enough=enough)

    with_engine(tmp_path, work, timeout_s=200)


def test_an_option_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(InvalidArgumentError, match="spoofing is neither true nor false"):
            await made(engine, "a", options={"spoofing": "maybe"})
        await made(engine, "b")
        asked = EndpointOptions(driver_options={"spoofing": "maybe"})
        with pytest.raises(InvalidArgumentError, match="spoofing is neither true nor false"):
            await box(engine, "sender", "b", networks=on(b=asked))

    with_engine(tmp_path, work)


def test_rules_that_somebody_flushed_come_back(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        bridge = name_of(await made(engine, "a", *_SUBNETS))
        peer, sender = await box(engine, "peer", "a"), await box(engine, "sender", "a", **_RAW)
        before = await said(HERE, "nft", "--stateless", "list", "tables", "bridge")
        await said(HERE, "nft", "flush", "ruleset")
        async with asyncio.timeout(60):
            while await said(HERE, "nft", "--stateless", "list", "tables", "bridge") != before:
                await asyncio.sleep(0.05)
        assert await _sent(sender, peer, bridge, enough=_OWN) == _OWN

    with_engine(tmp_path, work, timeout_s=200)


def test_containers_are_checked_after_the_engine_was_killed(tmp_path: Path) -> None:
    async def first(engine: Engine) -> None:
        await made(engine, "a", *_SUBNETS)
        await box(engine, "peer", "a")
        await box(engine, "sender", "a", **_RAW)

    async def second() -> None:
        async with opened(tmp_path) as engine:
            peer, sender = engine.containers.get("peer"), engine.containers.get("sender")
            bridge = next(name_of(one) for one in engine.networks.list() if one.name == "a")
            assert await _sent(sender, peer, bridge, enough=_OWN) == _OWN

    run_and_die(tmp_path, first)
    asyncio.run(second())
