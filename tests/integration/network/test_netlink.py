"""The kernel's answers: batches, dumps, reading back what was set."""

import errno
import socket
from collections.abc import Iterator

import pytest

from orlop.kernel.netlink import addresses, kinds, links, neighbours, qdiscs, routes
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.kinds import Vxlan
from orlop.kernel.netlink.links import Settings
from orlop.kernel.netlink.neighbours import EVERYONE, Forward
from orlop.kernel.netlink.qdiscs import Rate
from orlop.kernel.netlink.routes import Route
from tests.integration.network.lab import World

MAC = "02:00:00:00:00:07"


@pytest.fixture
def netlink(world: World) -> Iterator[Netlink]:
    del world
    with Netlink() as made:
        yield made


@pytest.fixture
def device(netlink: Netlink) -> int:
    """A bridge that is up."""
    netlink.ask(links.make("bridge", kinds.bridge(), Settings(name="dev0", up=True)))
    found = links.find(netlink, "dev0")
    assert found is not None
    return found.ifindex


def test_large_batches_and_dumps_are_whole(world: World, netlink: Netlink, device: int) -> None:
    wanted = [f"10.{a}.{b}.1/24" for a in range(5) for b in range(100)]
    netlink.ask(*(addresses.add(device, address) for address in wanted))
    found = [address.address for address in addresses.each(netlink, device)]
    assert [address for address in found if "." in address] == wanted
    said = world.link("dev0")["addr_info"]
    assert [f"{a['local']}/{a['prefixlen']}" for a in said if a["family"] == "inet"] == wanted
    assert len(routes.each(netlink, socket.AF_INET)) == len(wanted)


def test_refused_request_is_named_and_the_others_are_done(
    world: World, netlink: Netlink, device: int
) -> None:
    with pytest.raises(OSError, match=r"route to 10\.9\.0\.0/16") as caught:
        netlink.ask(
            addresses.add(device, "10.1.0.1/16"),
            routes.add(Route("10.9.0.0/16", gateway="10.200.0.1", ifindex=device)),
            addresses.add(device, "10.2.0.1/16"),
        )
    assert caught.value.errno == errno.ENETUNREACH
    assert caught.value.filename == "route to 10.9.0.0/16"
    assert "Nexthop has invalid gateway" in (caught.value.strerror or "")  # the kernel's own words
    assert len([a for a in world.link("dev0")["addr_info"] if a["family"] == "inet"]) == 2
    assert links.find(netlink, "dev0")  # answers and questions still fit


def test_interface_is_read_as_it_is(world: World, netlink: Netlink) -> None:
    peer = Settings(name="b0", mac=MAC)
    netlink.ask(links.make("veth", kinds.veth(peer), Settings(name="a0", mtu=1400, up=True)))
    netlink.ask(links.change("a0", Settings(alias="whose", queue_length=77)))
    found, other = links.find(netlink, "a0"), links.find(netlink, "b0")
    assert found is not None
    assert other is not None
    said = world.link("a0")
    assert (found.name, found.kind, found.alias, found.mtu) == ("a0", "veth", "whose", 1400)
    assert (found.ifindex, found.mac) == (said["ifindex"], said["address"])
    assert said["txqlen"] == 77
    assert (found.up, found.carrier, other.up, other.mac) == (True, False, False, MAC)
    assert (found.link, other.link) == (other.ifindex, found.ifindex)
    assert {link.name for link in links.each(netlink, "veth")} == {"a0", "b0"}
    assert links.find(netlink, "none") is None
    assert links.find(netlink, 9999) is None
    netlink.ask(links.change(found.ifindex, Settings(name="c0", up=False)))
    assert world.link("c0")["ifindex"] == found.ifindex
    netlink.ask(links.remove("c0"))
    assert links.find(netlink, "b0") is None


def test_routes_are_set_and_read(world: World, netlink: Netlink, device: int) -> None:
    netlink.ask(addresses.add(device, "10.1.0.1/16"), addresses.add(device, "fd00::1/64"))
    wanted = [
        Route("10.7.0.0/16", gateway="10.1.0.9", ifindex=device, metric=5),
        Route("10.8.0.0/16", ifindex=device, source="10.1.0.1"),
        Route("0.0.0.0/0", gateway="192.0.2.1", ifindex=device, on_link=True),
        Route("fd07::/48", gateway="fd00::9", ifindex=device, metric=7),
        Route("10.9.0.0/16", ifindex=device, table=1234),
    ]
    netlink.ask(*(routes.add(route) for route in wanted))
    found = [*routes.each(netlink, socket.AF_INET), *routes.each(netlink, socket.AF_INET6)]
    for route in wanted[:4]:
        assert route in found
    assert routes.each(netlink, socket.AF_INET, 1234) == [wanted[4]]
    assert routes.each(netlink, socket.AF_INET, 999) == []
    said = {route["dst"]: route for route in world.ip("route")}
    assert said["10.7.0.0/16"]["metric"] == 5
    assert said["10.8.0.0/16"]["prefsrc"] == "10.1.0.1"
    assert said["default"]["flags"] == ["onlink"]
    netlink.ask(*(routes.remove(route) for route in wanted))
    assert {route["dst"] for route in world.ip("route")} == {"10.1.0.0/16"}


def test_neighbours_are_set_and_read(world: World, netlink: Netlink, device: int) -> None:
    for address in ("10.1.0.7", "fd00::7"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        netlink.ask(neighbours.add(device, address, MAC))
        (found,) = (n for n in neighbours.each(netlink, device, family) if n.permanent)
        assert (found.address, found.mac) == (address, MAC)
        (said,) = world.ip("neigh", "show", "to", address)
        assert (said["lladdr"], said["state"]) == (MAC, ["PERMANENT"])
        netlink.ask(neighbours.remove(device, address))
        assert not [n for n in neighbours.each(netlink, device, family) if n.permanent]


def test_forwarding_entries_of_a_tunnel_are_set_and_read(world: World, netlink: Netlink) -> None:
    vxlan = Vxlan(vni=77, port=4790, local="192.0.2.1", ttl=3, proxy=True)
    netlink.ask(links.make("vxlan", vxlan.data(), Settings(name="vx0", up=True)))
    said = world.link("vx0")["linkinfo"]["info_data"]
    assert (said["id"], said["port"], said["local"], said["ttl"]) == (77, 4790, "192.0.2.1", 3)
    assert (said["learning"], said["proxy"]) == (False, True)
    index = world.link("vx0")["ifindex"]
    entries = [
        Forward(index, MAC, "192.0.2.7"),
        Forward(index, EVERYONE, "192.0.2.7"),
        Forward(index, EVERYONE, "192.0.2.8"),
        Forward(index, "02:00:00:00:00:08", "192.0.2.8", port=4791, vni=78),
    ]
    netlink.ask(*(neighbours.forward(entry) for entry in entries))
    assert set(neighbours.each_forward(netlink, index)) == set(entries)
    netlink.ask(*(neighbours.stop_forwarding(entry) for entry in entries))
    assert neighbours.each_forward(netlink, index) == []


def test_limits_are_set_and_read(world: World, netlink: Netlink, device: int) -> None:
    netlink.ask(qdiscs.limit(device, Rate(125_000, 20_000, 30_000), "dev0"))
    said = world.run("tc", "qdisc", "show", "dev", "dev0", "root").split()
    assert said[said.index("rate") + 1] == "1Mbit"
    assert said[said.index("burst") + 1] in ("20000b", "19999b", "19998b")
    assert "tbf" in qdiscs.kinds(netlink, device)
    netlink.ask(qdiscs.lift(device, "dev0"))
    assert "tbf" not in qdiscs.kinds(netlink, device)


def test_news_of_interfaces_are_heard(netlink: Netlink) -> None:
    with Netlink() as listener:
        listener.join(1)  # RTNLGRP_LINK
        assert listener.heard() == []
        netlink.ask(links.make("bridge", kinds.bridge(), Settings(name="new0")))
        netlink.ask(links.remove("new0"))
        told = [(kind, links.read(body).name) for kind, body in listener.heard()]
    assert (16, "new0") in told
    assert (17, "new0") in told
