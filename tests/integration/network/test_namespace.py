"""Going into namespaces and back, and those made ahead."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest

from orlop.errors import InvalidArgumentError
from orlop.network import sysctl
from orlop.network.namespace import Home, Pool
from tests.integration.network.lab import World, eventually

OWN = "/proc/thread-self/ns/net"


def test_new_namespace_has_only_lo_which_is_up(world: World) -> None:
    links = world.ip("addr", inside=world.container())
    assert [link["ifname"] for link in links if link.get("linkinfo") is None] == ["lo"]
    assert "UP" in links[0]["flags"]
    assert links[0]["addr_info"][0]["local"] == "127.0.0.1"


def test_thread_comes_back_whatever_happens_inside(world: World) -> None:
    here, container = os.readlink(OWN), world.container()
    inside = ""
    with suppress(KeyError), world.home.inside(container):
        inside = os.readlink(OWN)
        raise KeyError
    assert os.readlink(OWN) == here
    assert inside != here


def test_namespace_that_is_none_is_refused_and_nothing_moves(world: World) -> None:
    here = os.readlink(OWN)
    with open("/dev/null") as null, pytest.raises(OSError), world.home.inside(null.fileno()):  # noqa: PT011 any
        pass
    assert os.readlink(OWN) == here


def test_other_threads_stay_where_they_are(world: World) -> None:
    here = os.readlink(OWN)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(os.readlink, OWN).result() == here
        with world.home.inside(world.container()):
            assert os.readlink(OWN) != here
            assert other.submit(os.readlink, OWN).result() == here


def test_namespace_nobody_holds_is_gone(world: World) -> None:
    made = world.home.make()
    world.run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
    with world.home.inside(made):
        pass
    world.run("ip", "link", "set", "there", "netns", f"/proc/{os.getpid()}/fd/{made}")
    assert "here" in world.names()
    os.close(made)
    assert eventually(lambda: "here" not in world.names())


def test_pool_has_namespaces_ready_and_lets_go_of_them(world: World) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    pool = Pool(world.home, 3)
    assert [pool.refill(), pool.refill(), pool.refill()] == [True, True, False]
    assert not pool.refill()
    assert len(os.listdir("/proc/self/fd")) == descriptors + 3
    taken = [pool.take() for _ in range(5)]
    assert len({os.fstat(fd).st_ino for fd in taken}) == 5
    for fd in taken:
        os.close(fd)
    assert pool.refill()
    pool.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_put_off_is_done_when_settled_and_never_piles_up(world: World) -> None:
    done: list[int] = []
    world.home.soon(lambda: done.append(0))
    assert done == [0]
    world.home.postpone()
    for number in range(1, 101):
        world.home.soon(partial(done.append, number))
    assert 0 < len(done) < 101
    assert len(done) >= 60
    world.home.settle()
    assert done == list(range(101))


def test_settings_are_written_where_the_thread_is_also_after_a_new_proc(world: World) -> None:
    writer, container = world.home.sysctl, world.container()
    for round_ in range(3):
        value = str(round_ % 2)
        for _ in range(201):
            with world.home.inside(container):
                writer.write("ipv4/conf/lo/log_martians", value)
        writer.renew()
        assert world.setting("ipv4/conf/lo/log_martians", container) == value
        assert world.setting("ipv4/conf/lo/log_martians") == "0"


def test_home_closes_what_it_opened(world: World) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with Home() as home:
        home.open_netlink(home.fileno()).close()
        with home.inside(world.container()), socket.socket() as anything:
            anything.bind(("127.0.0.1", 0))
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1  # the container's


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net.ipv4.conf.all.forwarding",
        "kernel.IFNAME",
        "net.IFNAME./kernel/core_pattern",
        "net.ipv4.conf.IFNAME.a/b",
        "net.ipv4..IFNAME.x",
        "IFNAME",
        "",
    ],
)
def test_setting_of_anything_else_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no setting of an interface"):
        sysctl.parse({name: "1"}, "eth0")


def test_interface_with_a_dot_in_its_name_has_settings() -> None:
    parsed = sysctl.parse({"net.ipv4.conf.IFNAME.forwarding": "1"}, "eth0.5")
    assert parsed == [("ipv4/conf/eth0.5/forwarding", "1")]
