"""Containers on networks: real packets between them, to the host and back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orlop.engine.engine import Engine
from orlop.engine.requests import NetworkRequest
from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    PermissionDeniedError,
    WrongStateError,
)
from orlop.model.network import EndpointOptions, Subnet
from orlop.network.bridge_device import name_of
from tests.integration.engine.harness import output, run, shell, with_engine
from tests.integration.networks.scenes import (
    address,
    ask,
    client,
    default_routes,
    interfaces,
    made,
    serve,
)


async def told(engine: Engine, *hosts: str, network: str) -> list[str]:
    """Return what a container on *network* hears from servers."""
    container_id = await run(engine, client(*hosts, network=network))
    return (await output(engine, container_id)).splitlines()


def test_the_default_network_leads_to_other_containers_and_the_host(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        box = await serve(engine, "box", "bridge")
        assert interfaces(box.pid) == {"eth0": ["172.17.0.2/16"]}
        assert default_routes(box.pid) == ["172.17.0.1 eth0"]
        assert ask("172.17.0.2") == ["box to ::ffff:172.17.0.1"] * 2
        assert (
            await told(engine, "172.17.0.2", network="bridge") == ["box to ::ffff:172.17.0.3"] * 2
        )
        heard: list[str] = []

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(writer.get_extra_info("peername")[0])
            writer.write(b"host")
            writer.close()

        async with await asyncio.start_server(answer, "172.17.0.1", 7000):
            assert (await told(engine, "172.17.0.1", network="bridge"))[0] == "host"
        assert heard == ["172.17.0.3"]

    with_engine(tmp_path, work)


def test_two_families_and_two_protocols_pass_on_a_network_of_its_own(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "net", "10.9.0.0/24", ipv6=True)
        box = await serve(engine, "box", "net")
        six = address(box, version=6)
        assert six.startswith("fd")
        assert network.subnets[1].gateway.endswith("::1")
        assert len(default_routes(box.pid)) == 2
        heard = await told(engine, "10.9.0.2", six, network="net")
        assert heard[:2] == ["box to ::ffff:10.9.0.3"] * 2
        assert heard[2:] == [f"box to {six[:-1]}3"] * 2
        assert ask(six) == [f"box to {network.subnets[1].gateway}"] * 2

    with_engine(tmp_path, work)


def test_addresses_and_macs_can_be_chosen_and_belong_to_one(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "net", "10.9.0.0/24", "fd09::/64")
        wanted = EndpointOptions(ipv4="10.9.0.77", ipv6="fd09::77", mac="02:aa:00:00:00:01")
        box = await serve(engine, "box", "net", networks={"net": wanted})
        assert interfaces(box.pid)["eth0"][:2] == ["10.9.0.77/24", "fd09::77/64"]
        mac = await run(
            engine,
            shell(
                "cat /sys/class/net/eth0/address",
                network="net",
                networks={"net": EndpointOptions(mac="02:aa:00:00:00:02")},
            ),
        )
        assert await output(engine, mac) == "02:aa:00:00:00:02\n"
        other = await engine.containers.create(
            shell("true", network="net", networks={"net": wanted})
        )
        with pytest.raises(AlreadyExistsError, match="Address already in use"):
            await engine.containers.start(other.id)
        await engine.containers.stop("box", timeout_s=0)
        await engine.containers.start(other.id)

    with_engine(tmp_path, work)


def test_several_networks_are_several_interfaces_with_one_way_out(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "b", "10.2.0.0/24")
        await made(engine, "a", "10.1.0.0/24")
        await made(engine, "c", "10.3.0.0/24", internal=True)
        both = {"a": EndpointOptions(), "c": EndpointOptions(gateway_priority=9)}
        box = await serve(engine, "box", "b", networks=both)
        found = interfaces(box.pid)
        assert [found[f"eth{n}"][0][:4] for n in range(3)] == ["10.2", "10.1", "10.3"]
        assert default_routes(box.pid) == ["10.1.0.1 eth1"]
        first = {"a": EndpointOptions(), "b": EndpointOptions(gateway_priority=1)}
        box = await serve(engine, "first", "b", networks=first)
        assert default_routes(box.pid) == ["10.2.0.1 eth0"]

    with_engine(tmp_path, work)


def test_connect_and_disconnect_while_it_runs(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        await made(engine, "b", "10.2.0.0/24")
        box = await serve(engine, "box", "b")
        await engine.networks.connect("a", "box", EndpointOptions(ipv4="10.1.0.9"))
        assert interfaces(box.pid)["eth1"][0] == "10.1.0.9/24"
        assert default_routes(box.pid) == ["10.1.0.1 eth1"]
        assert await told(engine, "10.1.0.9", network="a") == ["box to ::ffff:10.1.0.2"] * 2
        with pytest.raises(PermissionDeniedError, match="already exists in network a"):
            await engine.networks.connect("a", "box", EndpointOptions())
        await engine.networks.disconnect("a", "box")
        assert list(interfaces(box.pid)) == ["eth0"]
        assert default_routes(box.pid) == ["10.2.0.1 eth0"]
        with pytest.raises(PermissionDeniedError, match="is not connected to network a"):
            await engine.networks.disconnect("a", "box")
        await engine.networks.disconnect("b", "box")
        assert interfaces(box.pid) == {}
        await engine.networks.connect("a", "box", EndpointOptions())
        assert list(interfaces(box.pid)) == ["eth0"]
        assert ask("10.1.0.2") == ["box to ::ffff:10.1.0.1"] * 2

    with_engine(tmp_path, work)


def test_what_is_connected_while_stopped_is_there_at_the_next_start(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "a", "10.1.0.0/24")
        created = await engine.containers.create(shell("exec sleep 60", network="bridge"))
        await engine.networks.connect("a", created.id, EndpointOptions())
        await engine.networks.disconnect("bridge", created.id)
        await engine.containers.start(created.id)
        box = engine.containers.get(created.id)
        assert interfaces(box.pid) == {"eth0": ["10.1.0.2/24"]}
        await engine.containers.restart(created.id, timeout_s=0)
        box = engine.containers.get(created.id)
        assert interfaces(box.pid) == {"eth0": ["10.1.0.2/24"]}

    with_engine(tmp_path, work)


def test_a_stopped_container_has_no_endpoint_and_its_address_is_free(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/30")
        box = await serve(engine, "box", "a")
        assert [one.id for one, _ in engine.networks.attached(network)] == [box.id]
        other = await engine.containers.create(shell("exec sleep 60", network="a"))
        with pytest.raises(ExhaustedError, match="no available IPv4 addresses"):
            await engine.containers.start(other.id)
        with pytest.raises(PermissionDeniedError, match=r'active endpoints \(name:"box"'):
            await engine.networks.remove("a")
        await engine.containers.stop("box", timeout_s=0)
        assert engine.containers.get("box").endpoints == ()
        assert engine.networks.attached(network) == []
        await engine.containers.start(other.id)
        assert address(engine.containers.get(other.id)) == "10.1.0.2"
        await engine.containers.remove(other.id, force=True)
        await engine.networks.remove("a")
        with pytest.raises(NotFoundError, match="network a not found"):
            await engine.containers.start("box")

    with_engine(tmp_path, work)


def test_other_modes_share_what_they_say(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        box = await serve(engine, "box", "bridge")
        assert (
            await told(engine, "127.0.0.1", network="container:box")
            == ["box to ::ffff:127.0.0.1"] * 2
        )
        path = f"ns:/proc/{box.pid}/ns/net"
        assert await told(engine, "127.0.0.1", network=path) == ["box to ::ffff:127.0.0.1"] * 2
        assert await told(engine, "172.17.0.2", network="host") == ["box to ::ffff:172.17.0.1"] * 2
        alone = await run(engine, shell("ls /sys/class/net", network="none"))
        assert await output(engine, alone) == "lo\n"
        for mode in ("host", "container:box", "none", path):
            with pytest.raises(InvalidArgumentError):
                await engine.containers.create(
                    shell("true", network=mode, networks={"bridge": EndpointOptions()})
                )

    with_engine(tmp_path, work)


async def _start(engine: Engine, network: str, **wanted: Any) -> None:
    networks = {network: EndpointOptions(**wanted)}
    created = await engine.containers.create(shell("true", network=network, networks=networks))
    try:
        await engine.containers.start(created.id)
    finally:
        await engine.containers.remove(created.id)


def _gateway_elsewhere(engine: Engine) -> Awaitable[object]:
    wrong = Subnet(subnet="10.9.0.0/24", gateway="10.8.0.1")
    return engine.networks.create(NetworkRequest(name="y", subnets=(wrong,)))


_REFUSED: Mapping[str, tuple[type[OrlopError], Callable[[Engine], Awaitable[object]]]] = {
    "Pool overlaps": (WrongStateError, lambda e: made(e, "x", "10.1.2.0/24")),
    "network with name a already exists": (AlreadyExistsError, lambda e: made(e, "a")),
    "invalid network name": (InvalidArgumentError, lambda e: made(e, "a/../b")),
    "predefined host network": (PermissionDeniedError, lambda e: made(e, "host")),
    "no network driver 'x'": (InvalidArgumentError, lambda e: made(e, "x", driver="x")),
    "neither IPv4 nor IPv6": (InvalidArgumentError, lambda e: made(e, "x", ipv4=False)),
    "doesn't contain this address": (InvalidArgumentError, _gateway_elsewhere),
    "network nope not found": (InvalidArgumentError, lambda e: _start(e, "nope")),
    "the IP address 9.9": (InvalidArgumentError, lambda e: _start(e, "a", ipv4="9.9.9.9")),
    "the IP address fd": (InvalidArgumentError, lambda e: _start(e, "a", ipv6="fd00::1")),
    "the IP address 10": (InvalidArgumentError, lambda e: _start(e, "a", ipv6="10.1.0.9")),
    "invalid IPv4 address": (InvalidArgumentError, lambda e: _start(e, "a", ipv4="x")),
    "Address already in use": (AlreadyExistsError, lambda e: _start(e, "a", ipv4="10.1.0.1")),
    "user defined": (InvalidArgumentError, lambda e: _start(e, "bridge", ipv4="172.17.0.9")),
    "invalid MAC address": (InvalidArgumentError, lambda e: _start(e, "a", mac="01:0:0:0:0:1")),
    "pre-defined network": (PermissionDeniedError, lambda e: e.networks.remove("bridge")),
    "network q not found": (NotFoundError, lambda e: e.networks.remove("q")),
}


def test_what_cannot_be_is_said_in_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        network = await made(engine, "a", "10.1.0.0/16")
        for said, (kind, refused) in _REFUSED.items():
            with pytest.raises(kind, match=said):
                await refused(engine)
        assert {one.name for one in engine.networks.list()} == {"bridge", "host", "none", "a"}
        assert engine.networks._desk.attachments.leases.in_use(network) == 0

    with_engine(tmp_path, work)


def test_a_bridge_is_one_network_s(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        named = {"com.docker.network.bridge.name": "mine"}
        first = await made(engine, "a", "10.1.0.0/24", options=named)
        taken = name_of(engine.networks.find("bridge"))
        for name, other in (("mine", first), (taken, engine.networks.find("bridge"))):
            named = {"com.docker.network.bridge.name": name}
            with pytest.raises(PermissionDeniedError, match=f"conflicts with network {other.id}"):
                await made(engine, "b", "10.2.0.0/24", options=named)
        await engine.networks.remove("a")
        await made(engine, "b", "10.2.0.0/24", options={"com.docker.network.bridge.name": "mine"})

    with_engine(tmp_path, work)


def test_prune_removes_what_nobody_is_on(tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        await made(engine, "used", "10.1.0.0/24")
        await made(engine, "unused", "10.2.0.0/24")
        await serve(engine, "box", "used")
        await run(engine, shell("true", network="unused"))
        assert await engine.networks.prune() == ["unused"]

    with_engine(tmp_path, work)
