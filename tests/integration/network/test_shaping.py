"""Bandwidth limits, and counters."""

import socket
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError
from orlop.model.network import Bandwidth, Endpoint, Network
from orlop.network import counters, ownership
from orlop.network.bridge import Bridge
from orlop.network.interface import Driver
from orlop.network.macvlan import Macvlan
from orlop.network.tun import Tun
from tests.integration.network.contract import failing, replace, succeeds
from tests.integration.network.lab import ENGINE, World, bare, endpoint, network

SLOW = 64_000  # bits a second; a burst of 16 KiB goes at once
DATAGRAMS, SIZE = 200, 1000
SO_RCVBUFFORCE = 33


@pytest.fixture
def driver(world: World) -> Bridge:
    return Bridge(world.home, ENGINE)


@pytest.fixture
def net(driver: Bridge) -> Network:
    made = driver.check(network())
    driver.create(made)
    return made


def arrived(world: World, sender: int | None, receiver: int | None, address: str) -> int:
    """How many of many datagrams sent at once arrive; what is too much is dropped."""
    with (
        world.socket(receiver, socket.AF_INET, socket.SOCK_DGRAM) as there,
        world.socket(sender, socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        there.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        there.bind((address, 0))
        here.connect(there.getsockname())
        here.send(b"hello")  # so that the neighbour is known
        assert there.recv(100) == b"hello"
        for _ in range(DATAGRAMS):
            here.send(bytes(SIZE))
        there.settimeout(0.3)
        found = 0
        try:
            while found < DATAGRAMS:
                there.recv(SIZE)
                found += 1
        except TimeoutError:
            pass
        return found


def attached(world: World, driver: Driver, net: Network, **limits: int) -> tuple[int, Endpoint]:
    container = world.container()
    end = endpoint(net, 7, bandwidth=Bandwidth(**limits))
    driver.attach(net, end, container)
    return container, end


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_limit_holds_in_its_direction_only(
    world: World, driver: Bridge, net: Network, direction: str
) -> None:
    container, end = attached(world, driver, net, **{f"{direction}_bps": SLOW})
    received = arrived(world, None, container, bare(end.addresses[0]))
    sent = arrived(world, container, None, "10.5.0.1")
    slow, fast = (received, sent) if direction == "ingress" else (sent, received)
    assert 0 < slow < DATAGRAMS / 2
    assert fast == DATAGRAMS


def test_limit_is_changed_and_lifted_while_attached(
    world: World, driver: Bridge, net: Network
) -> None:
    before = world.names()
    container, end = attached(world, driver, net)
    unlimited = world.names() - {end.host_interface}
    assert unlimited == before
    for bps in (SLOW, 2 * SLOW):
        limits = Bandwidth(ingress_bps=bps, egress_bps=bps)
        driver.limit(net, replace(end, bandwidth=limits))
        assert arrived(world, container, None, "10.5.0.1") < DATAGRAMS / 2
        assert arrived(world, None, container, bare(end.addresses[0])) < DATAGRAMS / 2
        assert rates(world, end) == [bps // 8, bps // 8]
    driver.limit(net, end)
    assert world.names() - {end.host_interface} == before
    assert arrived(world, container, None, "10.5.0.1") == DATAGRAMS
    assert arrived(world, None, container, bare(end.addresses[0])) == DATAGRAMS
    driver.limit(net, end)


def rates(world: World, end: Endpoint) -> list[int]:
    found = []
    for name in (end.host_interface, ownership.shaper_name(end)):
        words = world.run("tc", "-r", "qdisc", "show", "dev", name, "root").split()
        found.append(words[words.index("rate") + 1])
    return [_bits(text) // 8 for text in found]


def _bits(text: str) -> int:
    for suffix, factor in (
        ("Kbit", 1000),
        ("Mbit", 10**6),
        ("Gbit", 10**9),
        ("Tbit", 10**12),
        ("bit", 1),
    ):
        if text.endswith(suffix):
            return int(text.removesuffix(suffix)) * factor
    raise AssertionError(text)


@pytest.mark.parametrize("bps", [10**6, 10**9, 4 * 10**10, 10**12])
def test_high_rates_are_taken_as_they_are(
    world: World, driver: Bridge, net: Network, bps: int
) -> None:
    container, end = attached(world, driver, net, ingress_bps=bps, egress_bps=bps)
    assert rates(world, end) == [bps // 8, bps // 8]
    assert world.tcp(None, container, bare(end.addresses[0]))


def test_connections_pass_through_limits(world: World, driver: Bridge, net: Network) -> None:
    container, end = attached(world, driver, net, ingress_bps=10**7, egress_bps=10**7)
    for address in end.addresses:
        assert world.tcp(None, container, bare(address))


def test_end_of_a_limited_container_leaves_nothing(
    world: World, driver: Bridge, net: Network
) -> None:
    before = world.names()
    container, end = attached(world, driver, net, ingress_bps=SLOW, egress_bps=SLOW)
    assert len(world.names() - before) == 2
    assert driver.strays([net], [end]) == []
    assert set(driver.strays([net], [])) == world.names() - before
    driver.detach(net, end, container)
    assert world.names() == before


@pytest.mark.parametrize("moment", ["before", "after"])
def test_limited_attach_that_fails_at_any_step_leaves_nothing(
    world: World,
    driver: Bridge,
    net: Network,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    container = world.container()
    before = world.state(container)
    step, reached = 0, True
    while reached:
        end = endpoint(net, 7, bandwidth=Bandwidth(ingress_bps=SLOW, egress_bps=SLOW))
        with failing(monkeypatch, step, after=moment == "after") as failed:
            attached = succeeds(driver.attach, net, end, container)
        if attached:
            driver.detach(net, end, container)
        assert (step, world.state(container)) == (step, before)
        step, reached = step + 1, failed()
    assert step > 10


@pytest.mark.parametrize("moment", ["before", "after"])
def test_limit_that_fails_at_any_step_makes_nothing_new(
    world: World, driver: Bridge, net: Network, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    _, end = attached(world, driver, net)
    before = world.state()
    limited = replace(end, bandwidth=Bandwidth(egress_bps=SLOW))
    step, reached = 0, True
    while reached:
        with failing(monkeypatch, step, after=moment == "after") as failed:
            limits = succeeds(driver.limit, net, limited)
        if limits:
            driver.limit(net, end)
        assert (step, world.state()) == (step, before)
        step, reached = step + 1, failed()
    assert step > 3


@pytest.mark.parametrize("limits", [{"ingress_bps": 1}, {"egress_bps": 1}, {"egress_bps": -5}])
def test_limit_that_lets_nothing_through_is_refused(
    world: World, driver: Bridge, net: Network, limits: dict[str, Any]
) -> None:
    container = world.container()
    before = world.state(container)
    with pytest.raises(InvalidArgumentError, match="too little"):
        driver.attach(net, endpoint(net, 7, bandwidth=Bandwidth(**limits)), container)
    assert world.state(container) == before


def test_limit_of_what_is_not_attached_says_so(driver: Bridge, net: Network) -> None:
    with pytest.raises(NotFoundError, match="eth0 is not attached"):
        driver.limit(net, endpoint(net, 7, bandwidth=Bandwidth(ingress_bps=SLOW)))


@pytest.mark.parametrize("kind", [Macvlan, Tun])
def test_driver_without_an_end_on_the_host_refuses_limits(
    world: World, kind: type[Macvlan | Tun]
) -> None:
    other = kind(world.home, ENGINE)
    made = other.check(network())
    other.create(made)
    with pytest.raises(OrlopError, match="no bandwidth limits"):
        attached(world, other, made, ingress_bps=SLOW)


def test_counters_are_the_containers_own(world: World, driver: Bridge, net: Network) -> None:
    container, end = attached(world, driver, net)
    for _ in range(3):
        assert world.tcp(None, container, bare(end.addresses[0]))
        assert arrived(world, container, None, "10.5.0.1") == DATAGRAMS
    (seen,) = world.ip("-s", "link", "show", "dev", "eth0", inside=container)
    inside = counters.of_namespace(world.home, container)["eth0"]
    outside = counters.of_endpoints(world.home, [end, endpoint(net, 8)])
    assert set(outside) == {"eth0"}
    for found in (inside, outside["eth0"]):
        assert found.tx_packets >= seen["stats64"]["tx"]["packets"] >= 3 * DATAGRAMS
        assert found.tx_bytes >= seen["stats64"]["tx"]["bytes"] >= 3 * DATAGRAMS * SIZE
        assert found.rx_packets >= seen["stats64"]["rx"]["packets"] > 0
        assert 0 < found.rx_bytes < found.tx_bytes
        assert found.tx_errors == found.rx_errors == 0
