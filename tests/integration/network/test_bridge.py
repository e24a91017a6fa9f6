"""What only drivers with a bridge do."""

import contextlib
from typing import Any

import pytest

from orlop.errors import AlreadyExistsError, InvalidArgumentError, UnsupportedError
from orlop.kernel.netlink import links
from orlop.model.network import Network, Subnet
from orlop.network.bridge import Bridge
from orlop.network.refusal import refusals
from tests.integration.network.lab import (
    ENGINE,
    World,
    bare,
    endpoint,
    eventually,
    network,
)

NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
DEVICE = "or-050505050505"


@pytest.fixture
def driver(world: World) -> Bridge:
    return Bridge(world.home, ENGINE)


def made(driver: Bridge, **more: Any) -> Network:
    net = driver.check(network(**more))
    driver.create(net)
    return net


def test_bridge_has_the_gateways_and_believes_no_router(world: World, driver: Bridge) -> None:
    net = made(driver)
    assert net.options[NAME] == DEVICE
    link = world.link(DEVICE)
    assert link["linkinfo"]["info_data"]["stp_state"] == 0
    assert link["ifalias"] == f"orlop:{ENGINE}:{net.id}"
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]
    assert addresses[:2] == ["10.5.0.1/16", "fd00:5::1/64"]
    assert world.setting(f"ipv6/conf/{DEVICE}/accept_ra") == "0"
    assert world.setting(f"ipv6/conf/{DEVICE}/disable_ipv6") == "0"


def test_bridge_of_an_ipv4_network_speaks_no_ipv6(world: World, driver: Bridge) -> None:
    net = made(driver, ipv6=False)
    container, end = world.container(), endpoint(net, 7)
    driver.attach(net, end, container)
    assert world.setting(f"ipv6/conf/{DEVICE}/disable_ipv6") == "1"
    assert world.setting(f"ipv6/conf/{end.host_interface}/disable_ipv6") == "1"
    for name in (DEVICE, end.host_interface):
        assert not [a for a in world.link(name)["addr_info"] if a["family"] == "inet6"]


def test_host_and_container_hear_each_other(world: World, driver: Bridge) -> None:
    net = made(driver)
    container, end = world.container(), endpoint(net, 7)
    driver.attach(net, end, container)
    for address, gateway in zip(end.addresses, ("10.5.0.1", "fd00:5::1"), strict=True):
        assert world.tcp(None, container, bare(address))
        assert world.tcp(container, None, gateway)
        assert world.udp(container, None, gateway)


def test_host_end_has_our_alias_and_no_address(world: World, driver: Bridge) -> None:
    net = made(driver)
    end = endpoint(net, 7)
    driver.attach(net, end, world.container())
    link = world.link(end.host_interface)
    assert link["ifalias"] == f"orlop:{ENGINE}:{end.container}"
    assert link["master"] == DEVICE
    assert link["addr_info"] == []


def test_detach_removes_a_pair_whose_maker_was_killed_before_it_said_whose_it_is(
    world: World, driver: Bridge
) -> None:
    net = made(driver)
    container, end = world.container(), endpoint(net, 7)
    driver.attach(net, end, container)
    world.run("ip", "link", "set", end.host_interface, "alias", "")
    driver.detach(net, end, container)
    assert links.find(world.home.netlink, end.host_interface) is None


def test_detach_leaves_an_interface_of_another_kind_alone(world: World, driver: Bridge) -> None:
    net = made(driver)
    end = endpoint(net, 7)
    world.run("ip", "link", "add", end.host_interface, "type", "bridge")
    driver.detach(net, end, world.container())
    assert links.find(world.home.netlink, end.host_interface) is not None


def test_bridge_keeps_its_mac_address_whatever_its_ports_are(world: World, driver: Bridge) -> None:
    net = made(driver)
    before = world.link(DEVICE)["address"]
    driver.attach(net, endpoint(net, 7, mac="02:00:00:00:00:01"), world.container())
    assert world.link(DEVICE)["address"] == before
    driver.remove(net)
    driver.create(net)
    assert world.link(DEVICE)["address"] == before


def test_bridge_that_somebody_deleted_is_made_again(world: World, driver: Bridge) -> None:
    net = made(driver)
    one, other = world.container(), world.container()
    first, second = endpoint(net, 7), endpoint(net, 8)
    driver.attach(net, first, one)
    world.run("ip", "link", "del", DEVICE)
    driver.attach(net, second, other)
    assert not world.tcp(one, other, bare(second.addresses[0]))
    driver.attach(net, first, one)  # as the engine does with all when it sees that
    assert world.tcp(one, other, bare(second.addresses[0]))
    assert world.tcp(other, None, "10.5.0.1")


def test_create_puts_right_what_somebody_changed(world: World, driver: Bridge) -> None:
    net = made(driver)
    before = world.state()
    world.run("sysctl", "-q", "-w", f"net.ipv6.conf.{DEVICE}.accept_ra=2")
    world.run("ip", "link", "set", DEVICE, "down", "mtu", "1200")
    world.run("ip", "addr", "flush", "dev", DEVICE)
    assert world.state() != before
    driver.create(net)
    assert world.state() == before
    assert world.setting(f"ipv6/conf/{DEVICE}/accept_ra") == "0"


def test_attach_puts_a_port_right_that_somebody_took_out(world: World, driver: Bridge) -> None:
    net = made(driver)
    container, end = world.container(), endpoint(net, 7)
    driver.attach(net, end, container)
    world.run("ip", "link", "set", end.host_interface, "nomaster", "down")
    driver.attach(net, end, container)
    assert world.tcp(None, container, bare(end.addresses[0]))


def test_bridge_that_was_there_is_used_and_left(world: World, driver: Bridge) -> None:
    world.run("ip", "link", "add", "theirs", "type", "bridge")
    world.run("ip", "addr", "add", "192.168.7.1/24", "dev", "theirs")
    before = world.state()
    net = made(driver, options={NAME: "theirs"})
    end = endpoint(net, 7)
    container = world.container()
    driver.attach(net, end, container)
    assert world.tcp(container, None, "10.5.0.1")
    driver.detach(net, end, container)
    driver.remove(net)
    world.run("ip", "link", "set", "theirs", "down")
    assert world.state() == before


@pytest.mark.parametrize("prefix", [16, 24])
def test_address_that_a_bridge_had_before_is_left(
    world: World, driver: Bridge, prefix: int
) -> None:
    world.run("ip", "link", "add", "theirs", "up", "type", "bridge")
    world.run("ip", "addr", "add", f"10.5.0.1/{prefix}", "dev", "theirs")
    before = world.state()
    net = made(driver, options={NAME: "theirs"})
    driver.create(net)
    driver.remove(net)
    assert world.state() == before


@pytest.mark.parametrize("how", ["no bridge", "another engine's", "another network's"])
def test_name_that_another_has_is_refused(world: World, driver: Bridge, how: str) -> None:
    if how == "no bridge":
        world.run("ip", "link", "add", "taken", "type", "veth", "peer", "name", "other")
    else:
        engine = ENGINE if how == "another network's" else "99999999"
        Bridge(world.home, engine).create(network(6, options={NAME: "taken"}))
    before = world.state()
    net = driver.check(network(options={NAME: "taken"}))
    with pytest.raises(AlreadyExistsError, match="taken"):
        driver.create(net)
    with pytest.raises(AlreadyExistsError, match="taken"):
        driver.attach(net, endpoint(net, 7), world.container())
    driver.remove(net)
    assert world.state() == before


def test_name_of_the_host_end_that_another_has_is_refused(world: World, driver: Bridge) -> None:
    net = made(driver)
    world.run("ip", "link", "add", "vetaken", "type", "bridge")
    container = world.container()
    before = world.state(container)
    end = endpoint(net, 7, host_interface="vetaken")
    with pytest.raises(AlreadyExistsError, match="vetaken"):
        driver.attach(net, end, container)
    driver.detach(net, end, container)
    assert world.state(container) == before


@pytest.mark.parametrize("name", ["a" * 16, "a/b", "..", "a b", "a:b", "all", "x%d"])
def test_name_that_no_interface_can_have_is_refused(driver: Bridge, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no name for a network interface"):
        driver.check(network(options={NAME: name}))


def test_containers_kept_apart_hear_the_host_only(world: World, driver: Bridge) -> None:
    net = made(driver, options={ICC: "false"})
    one, other = world.container(), world.container()
    first, second = endpoint(net, 7), endpoint(net, 8)
    driver.attach(net, first, one)
    driver.attach(net, second, other)
    for address, gateway in zip(second.addresses, ("10.5.0.1", "fd00:5::1"), strict=True):
        assert not world.tcp(one, other, bare(address))
        assert not world.udp(one, other, bare(address))
        assert world.tcp(one, None, gateway)
        assert world.tcp(None, other, bare(address))


def test_option_that_is_neither_true_nor_false_is_refused(driver: Bridge) -> None:
    with pytest.raises(InvalidArgumentError, match="enable_icc"):
        driver.check(network(options={ICC: "maybe"}))


def test_gateway_may_be_somebody_elses(world: World, driver: Bridge) -> None:
    made(driver, options={"com.docker.network.bridge.inhibit_ipv4": "true"})
    addresses = [a["local"] for a in world.link(DEVICE)["addr_info"] if a["scope"] == "global"]
    assert addresses == ["fd00:5::1"]


def test_gateway_that_no_address_covers_is_reached_on_the_link(
    world: World, driver: Bridge
) -> None:
    net = made(driver)
    container, end = world.container(), endpoint(net, 7, addresses=("10.5.0.7/32",))
    driver.attach(
        net, endpoint(net, 7, addresses=("10.5.0.7/32",), routes=end.routes[:1]), container
    )
    assert world.tcp(container, None, "10.5.0.1")


def test_mtu_is_that_of_the_way_out(world: World, driver: Bridge) -> None:
    assert driver.check(network()).mtu == 1500
    world.run("ip", "link", "add", "out", "mtu", "1400", "type", "veth", "peer", "name", "far")
    world.run("ip", "addr", "add", "192.0.2.1/24", "dev", "out")
    world.run("ip", "link", "set", "out", "up")
    world.run("ip", "route", "add", "default", "via", "192.0.2.2")
    assert driver.check(network()).mtu == 1400


def test_ports_reflect_where_rules_see_bridged_frames(world: World, driver: Bridge) -> None:
    net = made(driver)
    for seen in ("1", "0"):
        path = "net.bridge.bridge-nf-call-iptables"
        with contextlib.suppress(AssertionError):
            world.run("sysctl", "-q", "-w", f"{path}={seen}")
        if world.setting("bridge/bridge-nf-call-iptables") != seen:
            pytest.skip("no bridge netfilter here")
        end = endpoint(net, 7)
        driver.attach(net, end, world.container())
        port = world.link(end.host_interface)["linkinfo"]["info_slave_data"]
        assert port["hairpin"] == (seen == "1")


def test_second_network_is_another_network(world: World, driver: Bridge) -> None:
    one, other = made(driver), made(driver, number=6)
    first, second = world.container(), world.container()
    driver.attach(one, endpoint(one, 7), first)
    driver.attach(other, endpoint(other, 7), second)
    world.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    assert not world.tcp(first, second, "10.6.0.7")


def test_strays_after_a_crash_are_removed_and_others_stay(world: World, driver: Bridge) -> None:
    net = made(driver)
    lost, kept = endpoint(net, 7), endpoint(net, 8)
    for end in (lost, kept):
        driver.attach(net, end, world.container())
    assert driver.strays([net], [kept]) == [lost.host_interface]


def test_kernel_that_lacks_a_part_is_told_so(world: World) -> None:
    """There is no ipvlan here; where there is, another kind that nobody has does as well."""
    request = links.make("orlop-no-kind", b"", links.Settings(name="no0"))
    with (
        pytest.raises(UnsupportedError, match="kernel has no ipvlan") as caught,
        refusals("make no0", lacking="ipvlan"),
    ):
        world.home.netlink.ask(request)
    assert "load the module" in (caught.value.hint or "")


def test_several_subnets_are_all_there(world: World, driver: Bridge) -> None:
    subnets = tuple(Subnet(subnet=f"10.{n}.0.0/24", gateway=f"10.{n}.0.1") for n in (21, 22))
    net = made(driver, subnets=subnets)
    container = world.container()
    driver.attach(net, endpoint(net, 7, routes=()), container)
    assert world.tcp(None, container, "10.21.0.7")
    assert world.tcp(None, container, "10.22.0.7")
    assert eventually(lambda: bool(world.ip("neigh")))
