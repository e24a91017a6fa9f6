"""Interfaces whose other end is a descriptor: what virtual machines and layer 3 programs use."""

import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from orlop.errors import AlreadyExistsError, OrlopError, WrongStateError
from orlop.model.network import Bandwidth, Network
from orlop.network.bridge import Bridge
from orlop.network.tap import Tap, open_tap
from orlop.network.tun import Tun
from tests.integration.network.contract import failing
from tests.integration.network.lab import ENGINE, World, endpoint, eventually, network

MAC = bytes.fromhex("024205000009")


@pytest.fixture
def driver(world: World) -> Tap:
    return Tap(world.home, ENGINE)


@pytest.fixture
def net(driver: Tap) -> Network:
    made = driver.check(network())
    driver.create(made)
    return made


def question(wanted: str) -> bytes:
    """An ARP frame: who has *wanted*? Tell 10.5.0.9."""
    ethernet = b"\xff" * 6 + MAC + struct.pack(">H", 0x0806)
    sender, target = socket.inet_aton("10.5.0.9"), socket.inet_aton(wanted)
    return ethernet + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + MAC + sender + bytes(6) + target


def answer(fd: int, *, skip: int = 0) -> bytes:
    """The first frame from *fd* that is an ARP answer to us."""
    while select.select([fd], [], [], 10)[0]:
        frame = os.read(fd, 65536)[skip:]
        if frame[:6] == MAC and frame[12:14] == b"\x08\x06":
            return frame
    raise AssertionError("nobody answered")


@pytest.mark.parametrize("header", [0, 10])
def test_frames_of_a_tap_reach_a_container_and_the_host(
    world: World, driver: Tap, net: Network, header: int
) -> None:
    end = endpoint(net, 7)
    driver.attach(net, end, world.container())
    fd = open_tap(driver, net, endpoint(net, 9), vnet_header=bool(header))
    try:
        os.write(fd, bytes(header) + question("10.5.0.7"))
        assert answer(fd, skip=header)[6:12].hex(":") == end.mac
        os.write(fd, bytes(header) + question("10.5.0.1"))
        assert answer(fd, skip=header)
    finally:
        os.close(fd)


def test_tap_goes_with_its_descriptor(world: World, driver: Tap, net: Network) -> None:
    before = world.names()
    end = endpoint(net, 9)
    fd = open_tap(driver, net, end)
    assert world.link(end.host_interface)["ifalias"] == f"orlop:{ENGINE}:{end.container}"
    assert driver.strays([net], [end]) == []
    assert driver.strays([net], []) == [end.host_interface]
    os.close(fd)
    assert eventually(lambda: world.names() == before)


def test_tap_is_there_on_any_network_with_a_bridge(world: World) -> None:
    bridge = Bridge(world.home, ENGINE)
    net = bridge.check(network())
    fd = open_tap(bridge, net, endpoint(net, 9))
    try:
        os.write(fd, question("10.5.0.1"))
        assert answer(fd)
    finally:
        os.close(fd)


def test_name_of_a_tap_that_another_has_is_refused(world: World, driver: Tap, net: Network) -> None:
    end = endpoint(net, 9)
    world.run("ip", "link", "add", end.host_interface, "type", "bridge")
    before = world.state()
    with pytest.raises(AlreadyExistsError, match=end.host_interface):
        open_tap(driver, net, end)
    assert world.state() == before


def test_tap_that_fails_at_any_step_leaves_nothing(
    world: World, driver: Tap, net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.state()
    step, reached = 0, True
    while reached:
        end = endpoint(net, 9, bandwidth=Bandwidth(egress_bps=10**6))
        with failing(monkeypatch, step, after=False) as failed:
            try:
                os.close(open_tap(driver, net, end))
                opened = True
            except (OSError, OrlopError):
                opened = False
        if opened:
            driver.detach(net, end, None)
        assert eventually(lambda: world.state() == before), step
        step, reached = step + 1, failed()
    assert step > 5


def test_packets_of_a_tun_are_read_and_written(world: World) -> None:
    driver = Tun(world.home, ENGINE)
    net = driver.check(network())
    container = world.container()
    end = endpoint(net, 7)
    driver.attach(net, end, container)
    fd = driver.open_tun(end, container)
    try:
        with pytest.raises(WrongStateError, match="eth0 is open already"):
            driver.open_tun(end, container)
        with world.socket(container, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("10.5.0.7", 0))
            sender.sendto(b"out", ("198.51.100.1", 99))
            packet = next(iter(_packets(fd)))
            assert packet.endswith(b"out")
            back = bytearray(packet)
            back[12:16], back[16:20] = packet[16:20], packet[12:16]
            back[20:22], back[22:24] = packet[22:24], packet[20:22]
            os.write(fd, bytes(back))  # a sum over both is the same either way round
            assert sender.recvfrom(100) == (b"out", ("198.51.100.1", 99))
    finally:
        os.close(fd)
    os.close(driver.open_tun(end, container))


def _packets(fd: int) -> Iterator[bytes]:
    while select.select([fd], [], [], 10)[0]:
        packet = os.read(fd, 65536)
        if packet[0] >> 4 == 4:
            yield packet
