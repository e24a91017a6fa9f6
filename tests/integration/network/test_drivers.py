"""The built-in drivers, each after the contract."""

import contextlib
import os
import select
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orlop.model.network import Endpoint, Network
from orlop.network import choose
from orlop.network.bridge import Bridge
from orlop.network.interface import Driver
from orlop.network.macvlan import Macvlan
from orlop.network.tap import Tap
from orlop.network.tun import Tun
from tests.integration.network.contract import DriverContract
from tests.integration.network.lab import ENGINE, World, network


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
