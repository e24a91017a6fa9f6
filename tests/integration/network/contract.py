"""What every network driver does. A driver's own test is a subclass and a fixture `driver`."""

import contextlib
import errno
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from orlop.errors import AlreadyExistsError, InvalidArgumentError, OrlopError
from orlop.kernel.netlink.connection import Netlink
from orlop.model.network import Endpoint, Network, Route
from orlop.network.interface import Driver
from orlop.network.sysctl import Sysctl
from tests.integration.network.lab import World, bare, endpoint, eventually, network


def replace(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


class DriverContract:
    """Give a fixture `driver`; override what is below where the driver differs."""

    layer2 = True  # there are MAC addresses, and neighbours to tell

    def network(self, number: int = 5, **more: Any) -> Network:
        """A network as a user would ask for it, before check()."""
        return network(number, **more)

    def joined(self, world: World, driver: Driver, *ends: tuple[Endpoint, int]) -> Any:
        """A context in which packets pass between attached endpoints."""
        del world, driver, ends
        return contextlib.nullcontext()

    @pytest.fixture
    def net(self, driver: Driver) -> Network:
        made = driver.check(self.network())
        driver.create(made)
        return made

    def test_attached_interface_is_as_the_endpoint_says(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container, wanted = world.container(), endpoint(net, 7)
        driver.attach(net, wanted, container)
        link = world.link("eth0", container)
        assert "UP" in link["flags"]
        assert link["mtu"] == net.mtu
        if self.layer2:
            assert link["address"] == wanted.mac
        ours = [address for address in link["addr_info"] if address["scope"] == "global"]
        assert {f"{one['local']}/{one['prefixlen']}" for one in ours} == set(wanted.addresses)
        assert not any(one.get("tentative") for one in ours)
        for family, route in zip(("-4", "-6"), wanted.routes, strict=True):
            (default,) = world.ip(family, "route", "show", "default", inside=container)
            assert (default["gateway"], default["dev"]) == (route.gateway, "eth0")

    def test_two_containers_hear_each_other(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        one, other = world.container(), world.container()
        ends = [(endpoint(net, 7), one), (endpoint(net, 8), other)]
        for end, namespace in ends:
            driver.attach(net, end, namespace)
        with self.joined(world, driver, *ends):
            for address in ends[1][0].addresses:
                assert world.tcp(one, other, bare(address)), address
                assert world.udp(one, other, bare(address)), address
            for address in ends[0][0].addresses:
                assert world.tcp(other, one, bare(address)), address

    def test_attaching_again_changes_nothing(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container, wanted = world.container(), endpoint(net, 7)
        driver.attach(net, wanted, container)
        before = world.state(container)
        index = world.link("eth0", container)["ifindex"]
        driver.attach(net, wanted, container)
        assert world.state(container) == before
        assert world.link("eth0", container)["ifindex"] == index

    def test_attaching_again_without_a_default_route_takes_it_away(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container, wanted = world.container(), endpoint(net, 7)
        driver.attach(net, wanted, container)
        driver.attach(net, replace(wanted, routes=()), container)
        for family in ("-4", "-6"):
            assert world.ip(family, "route", "show", "default", inside=container) == []
        driver.attach(net, wanted, container)
        assert world.ip("route", "show", "default", inside=container)

    def test_detached_container_has_nothing_and_may_be_detached_again(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container, wanted = world.container(), endpoint(net, 7)
        before = world.state(container)
        driver.attach(net, wanted, container)
        assert world.state(container) != before
        driver.detach(net, wanted, container)
        assert world.state(container) == before
        driver.detach(net, wanted, container)
        driver.attach(net, wanted, container)
        assert world.link("eth0", container)["addr_info"]

    def test_end_of_the_namespace_takes_all_along(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        before, peers = world.names(), world.peers()
        for number in range(20):
            container, wanted = world.container(), endpoint(net, 7 + number)
            driver.attach(net, wanted, container)
            world.end(container)
            driver.detach(net, wanted, None)
        assert eventually(lambda: world.names() == before)
        assert eventually(lambda: world.peers() == peers)

    def test_container_has_several_networks(self, world: World, driver: Driver) -> None:
        container = world.container()
        for number, interface in ((5, "eth0"), (6, "eth1")):
            net = driver.check(self.network(number))
            driver.create(net)
            wanted = endpoint(net, 7, interface=interface)
            if number == 6:
                wanted = replace(wanted, routes=(Route(destination="10.66.0.0/16"),))
            driver.attach(net, wanted, container)
            assert "UP" in world.link(interface, container)["flags"]
        routes = world.ip("route", inside=container)
        assert [route["dev"] for route in routes if route["dst"] == "default"] == ["eth0"]
        assert [route["dev"] for route in routes if route["dst"] == "10.66.0.0/16"] == ["eth1"]

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_attach_that_fails_at_any_step_leaves_nothing(
        self,
        world: World,
        driver: Driver,
        net: Network,
        monkeypatch: pytest.MonkeyPatch,
        moment: str,
    ) -> None:
        container = world.container()
        before = world.state(container)
        for step in itertools.count():
            wanted = endpoint(net, 7)
            with failing(monkeypatch, step, after=moment == "after") as failed:
                attached = succeeds(driver.attach, net, wanted, container)
            if not failed():
                break
            if attached:  # nobody need know that it was refused
                driver.detach(net, wanted, container)
            assert (step, world.state(container)) == (step, before)
        assert step > 4
        assert world.state(container) != before

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_create_that_fails_at_any_step_leaves_nothing(
        self, world: World, driver: Driver, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        net = driver.check(self.network())
        before = world.state()
        for step in itertools.count():
            with failing(monkeypatch, step, after=moment == "after") as failed:
                created = succeeds(driver.create, net)
            if not failed():
                break
            if created:
                driver.remove(net)
            assert (step, world.state()) == (step, before)

    def test_created_and_removed_twice_is_no_error(self, world: World, driver: Driver) -> None:
        before = world.state()
        net = driver.check(self.network())
        assert world.state() == before
        driver.create(net)
        made = world.state()
        driver.create(net)
        assert world.state() == made
        driver.remove(net)
        assert world.state() == before
        driver.remove(net)

    def test_interface_name_that_the_container_has_is_refused(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container = world.container()
        world.run("ip", "link", "add", "eth0", "type", "bridge", inside=container)
        before = world.state(container)
        with pytest.raises(AlreadyExistsError, match="eth0"):
            driver.attach(net, endpoint(net, 7), container)
        assert world.state(container) == before

    @pytest.mark.parametrize(
        "change",
        [
            {"addresses": ("10.5.0.300/16",)},
            {"addresses": ("10.5.0.7/x",)},
            {"mac": "02:42:zz:00:00:01"},
            {"routes": (Route(destination="0.0.0.0/0", gateway="nowhere"),)},
            {"sysctls": {"net.ipv4.conf.IFNAME.no_such": "1"}},
            {"sysctls": {"net.ipv4.conf.IFNAME.log_martians": "many"}},
            {"sysctls": {"net.ipv4.ip_forward": "1"}},
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused_in_one_sentence(
        self, world: World, driver: Driver, net: Network, change: dict[str, Any]
    ) -> None:
        if "mac" in change and not self.layer2:
            pytest.skip("no MAC addresses on this layer")
        container = world.container()
        before = world.state(container)
        with pytest.raises(OrlopError) as caught:
            driver.attach(net, endpoint(net, 7, **change), container)
        assert "\n" not in str(caught.value)
        assert world.state(container) == before

    def test_settings_are_those_of_the_interface_inside(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container = world.container()
        sysctls = {"net.ipv4.conf.IFNAME.log_martians": "1"}
        before = world.setting("ipv4/conf/all/log_martians")
        driver.attach(net, endpoint(net, 7, sysctls=sysctls), container)
        assert world.setting("ipv4/conf/eth0/log_martians", container) == "1"
        assert world.setting("ipv4/conf/all/log_martians") == before
        assert world.setting("ipv6/conf/eth0/accept_ra", container) == "0"
        assert world.setting("ipv6/conf/eth0/disable_ipv6", container) == "0"

    def test_ipv6_is_off_where_it_was_not_asked_for(self, world: World, driver: Driver) -> None:
        net = driver.check(self.network(ipv6=False))
        driver.create(net)
        container = world.container()
        driver.attach(net, endpoint(net, 7), container)
        assert world.setting("ipv6/conf/eth0/disable_ipv6", container) == "1"
        addresses = world.link("eth0", container)["addr_info"]
        assert [address["family"] for address in addresses] == ["inet"]

    def test_neighbours_hear_of_an_address_that_moved(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        if not self.layer2:
            pytest.skip("no neighbours on this layer")
        one, other, third = world.container(), world.container(), world.container()
        driver.attach(net, endpoint(net, 7), one)
        old, new = endpoint(net, 8), endpoint(net, 8)
        driver.attach(net, old, other)
        for address in old.addresses:
            assert world.udp(one, other, bare(address))
        driver.detach(net, old, other)
        driver.attach(net, new, third)
        for address in new.addresses:
            assert eventually(partial(has_mac, world, one, bare(address), new.mac)), address
            assert world.tcp(one, third, bare(address))

    def test_strays_are_what_nobody_speaks_of(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        quiet = world.names()
        wanted = endpoint(net, 7)
        driver.attach(net, wanted, world.container())
        assert driver.strays([net], [wanted]) == []
        assert set(driver.strays([net], [])) == world.names() - quiet
        made = world.names() - {"lo", *self.others()}
        assert set(driver.strays([], [])) == made
        other = type(driver)(world.home, "99999999")  # type: ignore[call-arg]  # a Maker's
        assert other.strays([], []) == []

    def others(self) -> set[str]:
        """Interfaces of the host that the test made."""
        return set()

    def test_attach_and_detach_many_times_is_back_where_it_began(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        container = world.container()
        before, descriptors = world.state(container), len(os.listdir("/proc/self/fd"))
        for number in range(15):
            wanted = endpoint(net, 7 + number)
            driver.attach(net, wanted, container)
            driver.detach(net, wanted, container)
        assert world.state(container) == before
        assert len(os.listdir("/proc/self/fd")) == descriptors

    def test_driver_leaves_the_thread_where_it_was(
        self, world: World, driver: Driver, net: Network
    ) -> None:
        here = os.readlink("/proc/thread-self/ns/net")
        container = world.container()
        driver.attach(net, endpoint(net, 7), container)
        with pytest.raises(OrlopError):
            driver.attach(net, endpoint(net, 8, addresses=("no",)), container)
        assert os.readlink("/proc/thread-self/ns/net") == here

    @pytest.mark.parametrize("mtu", ["x", "-1", "10", "70000", "1000"])
    def test_mtu_that_cannot_be_is_refused(self, driver: Driver, mtu: str) -> None:
        options = {**self.network().options, "com.docker.network.driver.mtu": mtu}
        with pytest.raises(InvalidArgumentError, match=r"MTU|mtu"):
            driver.check(self.network(options=options))

    def test_mtu_of_the_option_is_that_of_the_interface(self, world: World, driver: Driver) -> None:
        options = {**self.network().options, "com.docker.network.driver.mtu": "1380"}
        net = driver.check(self.network(options=options))
        driver.create(net)
        container = world.container()
        driver.attach(net, endpoint(net, 7), container)
        assert world.link("eth0", container)["mtu"] == 1380


def succeeds(function: Callable[..., None], *args: Any) -> bool:
    try:
        function(*args)
    except (OSError, OrlopError):
        return False
    return True


def has_mac(world: World, inside: int, address: str, mac: str) -> bool:
    """Whether the container believes that *address* is at *mac*."""
    found = world.ip("neigh", "show", "to", address, inside=inside)
    return bool(found) and found[0].get("lladdr") == mac


@contextlib.contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool
) -> Iterator[Callable[[], bool]]:
    """Let the kernel refuse one call, before or after it did it; yields whether it was reached."""
    steps = itertools.count()
    reached = False

    def refuse(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal reached
            if next(steps) != step:
                return function(*args, **named)
            reached = True
            if after:
                function(*args, **named)
            raise OSError(errno.EIO, "a test")

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Netlink, "ask", refuse(Netlink.ask))
        patch.setattr(Sysctl, "write", refuse(Sysctl.write))
        patch.setattr(socket, "if_nametoindex", refuse(socket.if_nametoindex))
        yield lambda: reached
