"""The driver vxlan, on one host, does what every driver does; and how its tunnel is made."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from orlop.errors import AlreadyExistsError
from orlop.model.network import Network
from orlop.model.overlay import Neighbour, Peering
from orlop.network.vxlan import Vxlan
from tests.integration.network.contract import DriverContract
from tests.integration.network.lab import ENGINE, World, fresh_world, network

LOCAL = "10.99.0.1"
TUNNEL, BRIDGE = "ov-050505050505", "or-050505050505"


@pytest.fixture
def world() -> Iterator[World]:
    """A host with a way out."""
    with fresh_world() as made:
        made.run("ip", "link", "add", "uplink", "mtu", "1600", "type", "bridge")
        made.run("ip", "addr", "add", f"{LOCAL}/24", "dev", "uplink")
        made.run("ip", "link", "set", "uplink", "up")
        yield made


@pytest.fixture
def driver(world: World) -> Vxlan:
    return Vxlan(world.home, ENGINE)


class TestVxlan(DriverContract):
    def network(self, number: int = 5, **more: Any) -> Network:
        options = {"local": LOCAL, **more.pop("options", {})}
        return network(number, driver="vxlan", options=options, **more)

    def others(self) -> set[str]:
        return {"uplink"}


def made(driver: Vxlan, **options: str) -> Network:
    net = driver.check(network(driver="vxlan", options={"local": LOCAL, **options}))
    driver.create(net)
    return net


def peering(*hosts: int, is_whole: bool = True) -> Peering:
    vteps = tuple(f"10.99.0.{number}" for number in hosts)
    neighbours = tuple(
        Neighbour(mac=f"02:00:00:00:00:{n:02x}", vtep=f"10.99.0.{n}", addresses=(f"10.5.0.{n}",))
        for n in hosts
    )
    return Peering(members=vteps, replicate=vteps, neighbours=neighbours, is_whole=is_whole)


def entries(world: World) -> str:
    return world.run("bridge", "fdb", "show", "dev", TUNNEL) + world.run(
        "ip", "neigh", "show", "dev", BRIDGE, "nud", "permanent"
    )


def members(world: World) -> list[str]:
    return sorted(re.findall(r"10\.99\.0\.\d+", world.run("nft", "list", "ruleset")))


def test_tunnel_learns_nothing_and_has_its_bridges_size(world: World, driver: Vxlan) -> None:
    net = made(driver)
    link = world.link(TUNNEL)
    data = link["linkinfo"]["info_data"]
    assert net.mtu == link["mtu"] == world.link(BRIDGE)["mtu"] == 1600 - 50
    assert (data["id"], data["port"], data["local"]) == (int(net.options["vni"]), 4789, LOCAL)
    assert data["learning"] is False
    port = link["linkinfo"]["info_slave_data"]
    assert (port["learning"], port["neigh_suppress"]) == (False, True)
    assert link["ifalias"] == f"orlop:{ENGINE}:{net.id}"


def test_what_is_known_is_what_the_kernel_has(world: World, driver: Vxlan) -> None:
    net = made(driver)
    driver.know(net, peering(2, 3))
    for number in (2, 3):
        mac = f"02:00:00:00:00:0{number}"
        assert f"{mac} dst 10.99.0.{number} self permanent" in entries(world)
        assert f"{mac} master {BRIDGE} static" in entries(world)
        assert f"00:00:00:00:00:00 dst 10.99.0.{number} self" in entries(world)
        assert f"10.5.0.{number} lladdr {mac} PERMANENT" in entries(world)
    driver.know(net, peering(3))
    assert "10.99.0.2" not in entries(world)
    assert "10.5.0.2 " not in entries(world)
    assert members(world) == ["10.99.0.3"]
    driver.know(net, peering())
    assert "10.99.0." not in entries(world)
    assert "02:00:00:00:00:03" not in entries(world)


def test_what_is_not_all_known_yet_takes_nothing_away(world: World, driver: Vxlan) -> None:
    net = made(driver)
    driver.know(net, peering(2, 3))
    driver.know(net, peering(4, is_whole=False))
    assert {"10.99.0.2", "10.99.0.3", "10.99.0.4"} <= set(re.findall(r"[\d.]{9}", entries(world)))


def test_endpoint_that_moves_is_followed(world: World, driver: Vxlan) -> None:
    net = made(driver)
    driver.know(net, peering(2, 3))
    (one, two) = peering(2, 3).neighbours
    moved = Neighbour(mac=one.mac, vtep=two.vtep, addresses=("10.5.0.9",))
    driver.know(net, Peering(members=(two.vtep,), replicate=(two.vtep,), neighbours=(moved,)))
    assert f"{one.mac} dst {two.vtep} self" in entries(world)
    assert f"10.5.0.9 lladdr {one.mac}" in entries(world)
    assert "10.5.0.2 " not in entries(world)


def test_what_is_known_before_the_network_is_there_is_not_lost(world: World, driver: Vxlan) -> None:
    net = driver.check(network(driver="vxlan", options={"local": LOCAL}))
    driver.know(net, peering(2))
    assert TUNNEL not in world.names()
    driver.create(net)
    assert "10.99.0.2" in entries(world)
    world.run("ip", "link", "del", BRIDGE)
    driver.create(net)
    assert "10.99.0.2" in entries(world)
    assert members(world) == ["10.99.0.2"]


def test_another_engine_after_a_kill_finds_all_and_keeps_the_filter(
    world: World, driver: Vxlan
) -> None:
    net = made(driver)
    driver.know(net, peering(2))
    before = entries(world)
    after = Vxlan(world.home, ENGINE)
    after.create(net)
    assert entries(world) == before
    assert members(world) == ["10.99.0.2"]
    after.know(net, peering(2))
    assert entries(world) == before


def test_tunnel_with_other_settings_is_made_anew(world: World, driver: Vxlan) -> None:
    net = made(driver, vni="77")
    world.run("ip", "link", "del", TUNNEL)
    world.run("ip", "link", "add", TUNNEL, "type", "vxlan", "id", "78", "dstport", "4789")
    driver.create(net)
    assert world.link(TUNNEL)["linkinfo"]["info_data"]["id"] == 77


def test_removed_network_leaves_no_rules_and_strays_lose_theirs(
    world: World, driver: Vxlan
) -> None:
    net = made(driver)
    assert "vxlan" in world.run("nft", "list", "tables")
    driver.remove(net)
    assert world.run("nft", "list", "tables") == ""
    driver.create(net)
    assert sorted(driver.strays([], [])) == [BRIDGE, TUNNEL]
    assert world.run("nft", "list", "tables") == ""
    assert driver.strays([net], []) == []


def test_interface_of_somebody_else_is_not_taken(world: World, driver: Vxlan) -> None:
    net = made(driver, vni="77")
    driver.remove(net)
    world.run("ip", "link", "add", "other", "type", "vxlan", "id", "77", "dstport", "4789")
    with pytest.raises(AlreadyExistsError):
        driver.create(net)
    assert BRIDGE not in world.names()
    assert world.run("nft", "list", "tables") == ""


def test_without_icc_containers_of_other_hosts_are_apart_too(world: World, driver: Vxlan) -> None:
    made(driver, **{"com.docker.network.bridge.enable_icc": "false"})
    assert world.link(TUNNEL)["linkinfo"]["info_slave_data"]["isolated"] is True
