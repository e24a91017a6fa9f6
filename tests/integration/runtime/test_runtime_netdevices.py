"""Interfaces of the host's that are moved into a container."""

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from orlop.errors import InvalidArgumentError, OrlopError
from orlop.runtime.bundle import Starting
from tests.integration.runtime.box import Box


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


def shown(starting: Starting, name: str) -> dict[str, Any]:
    """Return what iproute2 says of an interface in the container, or {}."""
    words = ["nsenter", f"--net=/proc/{starting.pid}/ns/net", "ip", "-json", "address"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return next((link for link in found if link["ifname"] == name), {})


@pytest.fixture
def pair(box: Box) -> Iterator[tuple[str, str]]:
    """Two ends of a cable on the host; one of them may be moved away."""
    del box
    name = f"orlop{uuid.uuid4().hex[:8]}"
    ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
    yield f"{name}a", f"{name}b"
    subprocess.run(["ip", "link", "delete", f"{name}b"], check=False, capture_output=True)


def test_an_interface_is_moved_with_its_addresses_and_brought_up(
    box: Box, pair: tuple[str, str]
) -> None:
    ip("address", "add", "192.0.2.7/24", "broadcast", "192.0.2.255", "dev", pair[0])
    ip("address", "add", "2001:db8::7/64", "dev", pair[0], "nodad")
    ip("address", "add", "192.0.2.9/24", "valid_lft", "900", "preferred_lft", "900", "dev", pair[0])
    ip("link", "set", pair[0], "up", "mtu", "1400")
    ip("link", "set", pair[1], "up")
    box.linux["netDevices"] = {pair[0]: {"name": "eth7"}}
    link = shown(box.sleeping(), "eth7")
    kept = {
        (a["local"], a["prefixlen"], a.get("broadcast"))
        for a in link["addr_info"]
        if a["scope"] == "global"
    }
    assert kept == {("192.0.2.7", 24, "192.0.2.255"), ("2001:db8::7", 64, None)}
    assert "UP" in link["flags"]
    assert link["mtu"] == 1400
    assert pair[0] not in dict(socket.if_nameindex()).values()


def test_an_interface_keeps_its_name_and_is_there_when_the_program_runs(
    box: Box, pair: tuple[str, str]
) -> None:
    box.linux["netDevices"] = {pair[0]: {}}
    assert box.sh("ls /sys/class/net").split() == sorted(["lo", pair[0]])


def test_a_name_may_be_a_template(box: Box, pair: tuple[str, str]) -> None:
    box.linux["netDevices"] = {pair[0]: {"name": "net%d"}, pair[1]: {"name": "net%d"}}
    assert box.sh("ls /sys/class/net").split() == ["lo", "net0", "net1"]


def test_a_name_that_the_container_has_is_refused_before_the_move(
    box: Box, pair: tuple[str, str]
) -> None:
    box.linux["netDevices"] = {pair[0]: {"name": "lo"}}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OrlopError, match=r"move net devices.*'lo'"):
        box.run("true")
    assert pair[0] in dict(socket.if_nameindex()).values()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_interface_that_is_not_there_is_named(box: Box) -> None:
    box.linux["netDevices"] = {"nosuch7": {}}
    with pytest.raises(OrlopError, match=r"no such network interface.*'nosuch7'"):
        box.run("true")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a" * 16, "..", "x%s", "a:1"])
def test_what_is_no_name_is_refused_by_its_field(box: Box, name: str) -> None:
    box.linux["netDevices"] = {name: {}}
    with pytest.raises(InvalidArgumentError, match=r"linux\.netDevices\["):
        box.run("true")


def test_the_hosts_network_takes_no_interface(box: Box) -> None:
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != "network"]
    box.linux["netDevices"] = {"lo": {}}
    with pytest.raises(InvalidArgumentError, match=r"linux\.netDevices.*network namespace"):
        box.run("true")


def test_a_container_in_a_user_namespace_and_one_that_joins_get_theirs(
    box: Box, pair: tuple[str, str]
) -> None:
    mapping = [{"containerID": 0, "hostID": 200_000, "size": 65536}]
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = mapping
    box.linux["netDevices"] = {pair[0]: {"name": "first"}}
    running = box.sleeping()
    second = Box(box.folder / "second")
    try:
        for entry in second.linux["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = f"/proc/{running.pid}/ns/net"
        second.linux["netDevices"] = {pair[1]: {"name": "second"}}
        second.sh("true")
    finally:
        second.close()
    assert shown(running, "first")
    assert shown(running, "second")
    assert os.readlink("/proc/self/ns/net") != os.readlink(f"/proc/{running.pid}/ns/net")
