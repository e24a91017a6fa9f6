"""The built-in drivers, each after the contract."""

import contextlib
import importlib
import os
import select
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError
from orlop.model.network import Endpoint, Network
from orlop.network import choose
from orlop.network.bridge import Bridge
from orlop.network.interface import Driver
from orlop.network.macvlan import Macvlan
from orlop.network.tap import Tap
from orlop.network.tun import Tun
from tests.integration.network.contract import DriverContract
from tests.integration.network.lab import ENGINE, World, endpoint, network


class TestBridge(DriverContract):
    @pytest.fixture
    def driver(self, world: World) -> Driver:
        return Bridge(world.home, ENGINE)


class TestTap(DriverContract):
    @pytest.fixture
    def driver(self, world: World) -> Driver:
        return Tap(world.home, ENGINE)


class TestMacvlanWithoutParent(DriverContract):
    @pytest.fixture
    def driver(self, world: World) -> Driver:
        return Macvlan(world.home, ENGINE)


class TestMacvlan(DriverContract):
    @pytest.fixture
    def driver(self, world: World) -> Driver:
        for name, peer in (("wire0", "far0"), ("wire1", "far1")):
            world.run("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
            world.run("ip", "link", "set", peer, "up")
            world.run("ip", "link", "set", name, "up")
        return Macvlan(world.home, ENGINE)

    def network(self, number: int = 5, **more: Any) -> Network:
        parent = {"parent": "wire0" if number == 5 else "wire1"}
        return network(number, **{"options": parent, **more})

    def others(self) -> set[str]:
        return {"wire0", "far0", "wire1", "far1"}


class TestTun(DriverContract):
    layer2 = False

    @pytest.fixture
    def driver(self, world: World) -> Driver:
        return Tun(world.home, ENGINE)

    @contextlib.contextmanager
    def joined(self, world: World, driver: Driver, *ends: tuple[Endpoint, int]) -> Iterator[None]:
        """What one sends is given to the other, by a thread."""
        del world
        assert isinstance(driver, Tun)
        one, other = (driver.open_tun(end, namespace) for end, namespace in ends)
        stopped, stop = os.pipe()
        relay = threading.Thread(target=_relay, args=(one, other, stopped))
        relay.start()
        try:
            yield
        finally:
            os.close(stop)
            relay.join()
            for fd in (one, other, stopped):
                os.close(fd)


def _relay(one: int, other: int, stopped: int) -> None:
    across = {one: other, other: one}
    while True:
        ready, _, _ = select.select([one, other, stopped], [], [])
        if stopped in ready:
            return
        for fd in ready:
            os.write(across[fd], os.read(fd, 65536))


@pytest.mark.parametrize("name", sorted(choose.DRIVERS))
def test_driver_is_found_by_its_name(world: World, name: str) -> None:
    assert choose.driver(name, world.home, ENGINE).name == name


def test_parent_that_cannot_be_is_refused(world: World) -> None:
    driver = Macvlan(world.home, ENGINE)
    with pytest.raises(NotFoundError, match="no network interface nowhere"):
        driver.check(network(options={"parent": "nowhere"}))
    with pytest.raises(InvalidArgumentError, match="no name for a network interface"):
        driver.check(network(options={"parent": "../eth0"}))
    with pytest.raises(InvalidArgumentError, match="no macvlan mode 'wild'"):
        driver.check(network(options={"macvlan_mode": "wild"}))
    world.run("ip", "link", "add", "br0", "type", "bridge")
    world.run("ip", "link", "add", "port", "master", "br0", "type", "veth", "peer", "name", "far")
    net = driver.check(network(options={"parent": "port"}))
    container = world.container()
    before = world.state(container)
    world.run("ip", "link", "set", "port", "up")
    with pytest.raises(InvalidArgumentError, match="port is a port of a bridge"):
        driver.attach(net, endpoint(net, 7), container)
    world.run("ip", "link", "set", "port", "down")
    assert world.state(container) == before


def test_parent_that_is_too_narrow_is_refused(world: World) -> None:
    world.run("ip", "link", "add", "wire", "mtu", "1400", "type", "veth", "peer", "name", "far")
    driver = Macvlan(world.home, ENGINE)
    assert driver.check(network(options={"parent": "wire"})).mtu == 1400
    with pytest.raises(InvalidArgumentError, match="an MTU of 1500 is more than that of wire"):
        driver.check(network(options={"parent": "wire"}, mtu=1500))


@pytest.mark.parametrize(
    ("mode", "hears"), [("bridge", True), ("private", False), ("vepa", False), ("passthru", False)]
)
def test_mode_says_who_hears_whom(world: World, mode: str, hears: bool) -> None:
    world.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "far")
    world.run("ip", "link", "set", "far", "up")
    driver = Macvlan(world.home, ENGINE)
    net = driver.check(network(options={"parent": "wire", "macvlan_mode": mode}))
    driver.create(net)
    one, other = world.container(), world.container()
    driver.attach(net, endpoint(net, 7), one)
    if mode == "passthru":
        with pytest.raises(OrlopError, match="cannot attach eth0"):
            driver.attach(net, endpoint(net, 8), other)
        return
    driver.attach(net, endpoint(net, 8), other)
    assert world.tcp(one, other, "10.5.0.8") == hears
    world.run("ip", "addr", "add", "10.5.0.1/16", "dev", "far")
    assert world.tcp(one, None, "10.5.0.1")  # who is on the wire


def test_driver_of_another_package_is_found_by_its_entry_point(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[orlop.networks]\ntheirs = their_network:Theirs\n")
    (tmp_path / "their_network.py").write_text(
        "from orlop.network.bridge import Bridge\nclass Theirs(Bridge):\n    name = 'theirs'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driver = choose.driver("theirs", world.home, ENGINE)
    assert driver.name == "theirs"
    driver.create(driver.check(network()))
    with pytest.raises(InvalidArgumentError, match=r"no network driver 'mine'.*bridge, macvlan"):
        choose.driver("mine", world.home, ENGINE)


def test_built_in_drivers_are_registered_as_others_are() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    points = project["project"]["entry-points"][choose.ENTRY_POINTS]
    for name, point in points.items():
        module, _, kind = point.partition(":")
        assert getattr(importlib.import_module(module), kind) is choose.DRIVERS[name]()
    assert set(points) == set(choose.DRIVERS)
