"""`orlop-cni`: by plain protocol, in chains with Debian's plugins, and beside Debian's bridge."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orlop.errors import OrlopError, UnavailableError
from orlop.model.network import Bandwidth, PortMapping
from orlop.network.cni.capabilities import Wishes, arguments
from orlop.network.cni.failure import failure_of
from tests.integration.cni.hosts import Namespace, exchange
from tests.integration.cni.setup import DEBIAN, Setup, chain
from tests.integration.cni.test_chains import BANDWIDTH, PORTMAP, TUNING

PROGRAM = Path(sys.executable).with_name("orlop-cni")
IPAM = {
    "type": "orlop-cni",
    "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]],
}
OURS = {
    "type": "orlop-cni",
    "bridge": "cni0",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": IPAM,
}
OTHER = {"type": "orlop-cni", "subnet": "10.8.0.0/24"}
LEASES = "/run/orlop-cni/leases"


@pytest.fixture
def ours(setup: Setup) -> Setup:
    """A setup whose folder of plugins has a link to the program."""
    (setup.own / "orlop-cni").symlink_to(PROGRAM)
    return setup


def call(
    setup: Setup, command: str, configuration: Any, name: str = "one", **more: str
) -> tuple[int, Any]:
    """Run the program by the plain protocol; its status, and what it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": setup.container(name).path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": f"{setup.own}:{DEBIAN}",
        **more,
    }
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    done = setup.host(
        subprocess.run,
        [PROGRAM],
        env=environment,
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def full(**more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "net", **OURS, **more}


def leases(setup: Setup) -> list[str]:
    script = f"cd {LEASES} 2>/dev/null && find . -type l ! -name 'last*'; true"
    return sorted(setup.host(subprocess.check_output, ["sh", "-c", script], text=True).split())


def nothing_left(setup: Setup) -> None:
    assert leases(setup) == []
    assert setup.host.links() <= {"cni0"}
    assert "elements" not in setup.host.run("nft", "list", "ruleset")


def test_two_containers_and_the_host(setup: Setup) -> None:
    status, one = call(setup, "ADD", full())
    assert status == 0
    assert call(setup, "ADD", full(), "two")[0] == 0
    first, second = setup.container("one"), setup.container("two")
    assert first.addresses("eth0") == {"10.9.0.2/24", "fd00:9::2/64"}
    assert exchange(first, second, "10.9.0.2", 80) == "10.9.0.3"
    assert exchange(first, second, "fd00:9::2", 80) == "fd00:9::3"
    assert exchange(first, setup.host, "10.9.0.2", 80) == "10.9.0.1"
    assert exchange(setup.host, first, "fd00:9::1", 80) == "fd00:9::2"
    assert [interface["name"] for interface in one["interfaces"]][::2] == ["cni0", "eth0"]
    assert call(setup, "CHECK", full(prevResult=one)) == (0, None)
    assert call(setup, "DEL", full(prevResult=one)) == (0, None)
    assert first.links() == set()
    assert second.links() == {"eth0"}
    for _ in range(2):
        assert call(setup, "DEL", full(), "two") == (0, None)
    nothing_left(setup)


def other_network(setup: Setup) -> Namespace:
    """A machine that the host reaches and that knows no way to containers."""
    there = setup.container("outside")
    setup.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "eth9", "netns", _pid(there))
    setup.host.run("ip", "address", "add", "192.0.2.1/24", "dev", "up0")
    setup.host.run("ip", "link", "set", "up0", "up")
    there.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth9")
    there.run("ip", "link", "set", "eth9", "up")
    setup.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    return there


def _pid(namespace: Namespace) -> str:
    """`ip link … netns` takes a path too."""
    return namespace.path


def test_what_leaves_the_network_is_masqueraded_and_what_stays_is_not(setup: Setup) -> None:
    outside = other_network(setup)
    call(setup, "ADD", full())
    call(setup, "ADD", full(), "two")
    assert exchange(outside, setup.container("one"), "192.0.2.2", 80) == "192.0.2.1"
    assert exchange(setup.container("two"), setup.container("one"), "10.9.0.3", 80) == "10.9.0.2"
    call(setup, "DEL", full(ipMasq=True))
    assert exchange(outside, setup.container("two"), "192.0.2.2", 80) == "192.0.2.1"


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
@pytest.mark.parametrize("gateway", ["isGateway", "isDefaultGateway"])
def test_same_result_and_same_kernel_as_debians_bridge(
    ours: Setup, version: str, gateway: str
) -> None:
    ipam = {
        "ranges": [
            [{"subnet": "10.8.0.0/24", "rangeStart": "10.8.0.9"}],
            [{"subnet": "fd08::/64"}],
        ],
        "routes": [{"dst": "172.30.0.0/16"}, {"dst": "172.31.0.0/16", "gw": "10.8.0.77"}],
    }
    seen = []
    for kind, who in (("bridge", "host-local"), ("orlop-cni", "orlop-cni")):
        name = kind.replace("-", "")
        config = {
            "type": kind,
            "bridge": f"b{name}"[:10],
            gateway: True,
            "mtu": 1400,
            "dns": {"nameservers": ["10.8.0.1"], "search": ["x.test"]},
            "ipam": {"type": who, **ipam},
        }
        result = ours.add(chain(config, name=name, version=version), name)
        assert result.interfaces[2].sandbox == ours.container(name).path
        container = ours.container(name)
        seen.append(
            (
                result.ips,
                {(r.dst, r.gw) for r in result.routes},
                result.dns,
                [(bool(i.mac), bool(i.sandbox)) for i in result.interfaces],
                container.addresses("eth0"),
                sorted((r["dst"], r.get("gateway")) for r in container.json("ip", "-j", "route")),
                container.json("ip", "-j", "link", "show", "eth0")[0]["mtu"],
                ours.host.addresses(f"b{name}"[:10]),
            )
        )
        ours.delete(chain(config, name=name, version=version), name)
    assert seen[0] == seen[1]


def test_debians_plugins_chained_after_it(ours: Setup) -> None:
    network = chain(OURS, PORTMAP, BANDWIDTH, TUNING)
    wishes = Wishes(
        ports=[PortMapping(protocol="tcp", container_port=80, host_port=8080)],
        bandwidth=Bandwidth(ingress_bps=8_000_000, egress_bps=8_000_000),
        mac="02:11:22:33:44:55",
    )
    result = ours.add(network, "one", **arguments(wishes))
    assert result.interfaces[2].mac == "02:11:22:33:44:55"
    assert exchange(ours.container("one"), ours.host, "10.9.0.1", 80, 8080)
    assert "tbf" in ours.host.run("tc", "qdisc")
    ours.delete(network, "one")
    assert leases(ours) == []
    assert ours.host.links() == {"cni0"}


def test_its_own_bandwidth_and_mac(ours: Setup) -> None:
    limited = {**OURS, "capabilities": {"bandwidth": True, "mac": True, "ips": True}}
    network = chain(limited, version="1.1.0")
    asked = arguments(
        Wishes(
            bandwidth=Bandwidth(ingress_bps=8_000_000, egress_bps=8_000_000),
            mac="02:11:22:33:44:55",
            addresses=["10.9.0.99/24"],
        )
    )
    result = ours.add(network, "one", **asked)
    assert [ip.address for ip in result.ips] == ["10.9.0.99/24", "fd00:9::2/64"]
    assert result.interfaces[2].mac == "02:11:22:33:44:55"
    assert ours.host.run("tc", "qdisc").count("tbf") == 2
    ours.check(network, "one")
    ours.delete(network, "one")
    nothing_left(ours)


@pytest.mark.parametrize(
    "ipam",
    [
        {"type": "host-local", "subnet": "10.6.0.0/24"},
        {"type": "static", "addresses": [{"address": "10.6.0.2/24"}]},
    ],
)
def test_addresses_of_another_plugin(ours: Setup, ipam: dict[str, Any]) -> None:
    network = chain({**OURS, "ipam": ipam})
    assert [ip.address for ip in ours.add(network, "one").ips] == ["10.6.0.2/24"]
    ours.check(network, "one")
    ours.delete(network, "one")
    nothing_left(ours)


def test_addresses_for_another_plugin(ours: Setup) -> None:
    network = chain({"type": "bridge", "bridge": "b0", "isGateway": True, "ipam": IPAM})
    result = ours.add(network, "one")
    assert [ip.address for ip in result.ips] == ["10.9.0.2/24", "fd00:9::2/64"]
    ours.check(network, "one")
    ours.delete(network, "one")
    assert leases(ours) == []


def test_macvlan(ours: Setup) -> None:
    ours.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "up1")
    for end in ("up0", "up1"):
        ours.host.run("ip", "link", "set", end, "up")
    network = chain(
        {"type": "orlop-cni", "driver": "macvlan", "master": "up0", "ipam": IPAM}, version="1.1.0"
    )
    ours.add(network, "one")
    ours.add(network, "two")
    assert exchange(ours.container("one"), ours.container("two"), "10.9.0.2", 9) == "10.9.0.3"
    ours.check(network, "one")
    for name in ("one", "two"):
        ours.delete(network, name)
        assert ours.container(name).links() == set()
    assert leases(ours) == []


def test_failed_add_leaves_nothing(ours: Setup) -> None:
    network = chain({**OURS, "ipam": {**IPAM, "routes": [{"dst": "10.1.0.0/16", "gw": "1.2.3.4"}]}})
    ours.container("one").run("ip", "link", "add", "eth0", "type", "bridge")
    with pytest.raises(OrlopError, match="the container has an interface eth0 already"):
        ours.add(network, "one")
    nothing_left(ours)
    ours.host.run("ip", "link", "add", "notbridge", "type", "veth", "peer", "x1")
    wrong = chain({**OURS, "bridge": "notbridge"})
    with pytest.raises(OrlopError, match="notbridge is a network interface, and no bridge"):
        ours.add(wrong, "two")
    assert leases(ours) == []
    assert ours.container("two").links() == set()


def test_check_finds_what_is_wrong(setup: Setup) -> None:
    breakages = {
        "has not 10.9.0.2/24": ["ip", "address", "del", "10.9.0.2/24", "dev", "eth0"],
        "gone or down": ["ip", "link", "set", "eth0", "down"],
    }
    for number, (text, words) in enumerate(breakages.items()):
        name = f"c{number}"
        _, told = call(setup, "ADD", full(ipMasq=False), name)
        ip = told["ips"][0]["address"]
        setup.container(name).run(*(word.replace("10.9.0.2/24", ip) for word in words))
        status, error = call(setup, "CHECK", full(prevResult=told, ipMasq=False), name)
        assert status == 1
        assert text.replace("10.9.0.2/24", ip) in error["msg"]
    _, told = call(setup, "ADD", full(), "last")
    setup.host.run("nft", "flush", "ruleset")
    assert "is not masqueraded" in call(setup, "CHECK", full(prevResult=told), "last")[1]["msg"]
    setup.host.run("ip", "link", "del", "cni0")
    assert "cni0 is gone" in call(setup, "CHECK", full(prevResult=told), "last")[1]["msg"]


def test_collect(ours: Setup) -> None:
    network = chain(OURS, version="1.1.0")
    ours.add(network, "one")
    for name in ("two", "three"):  # of which the runtime does not know
        assert call(ours, "ADD", full(), name)[0] == 0
    assert (
        call(ours, "ADD", full(name="other", bridge="cni1", ipam=OTHER), "two", CNI_IFNAME="eth1")[
            0
        ]
        == 0
    )
    ours.host(ours.cni.collect, network, {("one", "eth0")})
    assert leases(ours) == [
        "./net/10.9.0.2", "./net/fd00:9::2", "./other/10.8.0.2",
    ]  # fmt: skip
    assert ours.container("one").links() == {"eth0"}
    assert ours.container("two").links() == {"eth1"}
    assert ours.container("three").links() == set()
    told = ours.host.run("nft", "list", "ruleset")
    assert "net@one@eth0" in told
    assert "other@two@eth1" in told
    assert "three" not in told
    ours.check(network, "one")


def test_status_and_a_full_network(ours: Setup) -> None:
    network = chain(
        {**OURS, "ipam": {"type": "orlop-cni", "subnet": "10.9.0.0/30"}}, version="1.1.0"
    )
    ours.host(ours.cni.status, network)
    ours.add(network, "one")
    with pytest.raises(UnavailableError, match="STATUS: network net has no address left") as caught:
        ours.host(ours.cni.status, network)
    told = failure_of(caught.value)
    assert told is not None
    assert told.code == 50
    with pytest.raises(OrlopError, match=r"ADD: no address is left in 10\.9\.0\.0/30"):
        ours.add(network, "two")
    ours.delete(network, "one")
    ours.add(network, "two")


@pytest.mark.parametrize(
    ("environment", "configuration", "code", "text"),
    [
        ({"CNI_COMMAND": "NONE"}, "{}", 4, "CNI_COMMAND is 'NONE'"),
        ({"CNI_NETNS": ""}, full(), 4, "ADD needs CNI_NETNS in its environment"),
        ({"CNI_CONTAINERID": "../x"}, full(), 4, "CNI_CONTAINERID: container id '../x'"),
        ({"CNI_IFNAME": "a/b"}, full(), 4, "CNI_IFNAME: interface name 'a/b'"),
        ({}, "{", 6, "not JSON"),
        ({}, "[]", 6, "not a JSON object"),
        ({}, full(cniVersion="0.2.0"), 1, "of CNI version 0.2.0"),
        ({}, full(cniVersion="9.0.0"), 1, "of CNI version 9.0.0"),
        ({"CNI_COMMAND": "CHECK"}, full(cniVersion="0.3.1"), 1, "version 0.3.1 has no CHECK"),
        ({"CNI_COMMAND": "GC"}, full(cniVersion="1.0.0"), 1, "version 1.0.0 has no GC"),
        ({"CNI_COMMAND": "GC"}, full(), 7, "cni.dev/valid-attachments is not a list"),
        ({}, full(name="../x"), 7, "network name '../x'"),
        ({}, full(vlan=7), 2, "vlan is 7, and not supported"),
        ({}, full(driver="none"), 7, "there is no driver 'none'"),
        ({}, full(bridge="a/b"), 7, "'a/b' is no name for a network interface"),
        ({}, full(ipMasq="yes"), 7, "ipMasq is neither true nor false"),
        ({}, full(mtu=5), 7, "an MTU of 5"),
        ({}, full(ipam={"type": "../../bin/sh"}), 7, "../../bin/sh"),
        ({}, full(ipam={"type": "orlop-cni"}), 7, "ipam has no ranges"),
        ({}, full(ipam={"type": "orlop-cni", "subnet": "10.0.0.1/24"}), 7, "it has host bits"),
        ({}, full(ipam={"type": "orlop-cni", "subnet": "10.0.0.0/31"}), 7, "too small"),
        ({}, full(ipam={"type": "none"}), 999, "there is no CNI plugin none"),
        ({}, full(prevResult={"ips": []}), 7, "is the first of its chain"),
        ({"CNI_NETNS": "/no/such"}, full(), 3, "there is no network namespace /no/such"),
        ({"CNI_NETNS": "/etc/passwd"}, full(), 3, "/etc/passwd is no network namespace"),
        ({"CNI_NETNS": "/proc/self/ns/net"}, full(), 7, "is the host's network namespace"),
    ],
)
def test_errors_are_those_of_the_protocol(
    setup: Setup, environment: dict[str, str], configuration: Any, code: int, text: str
) -> None:
    environment = {"CNI_COMMAND": "ADD", **environment}
    status, error = call(setup, environment.pop("CNI_COMMAND"), configuration, **environment)
    assert status == 1
    assert error["code"] == code, error
    assert text in error["msg"]
    assert set(error) <= {"cniVersion", "code", "msg", "details"}
    wanted = configuration.get("cniVersion") if isinstance(configuration, dict) else "1.1.0"
    assert error["cniVersion"] == wanted
    nothing_left(setup)


def test_version(setup: Setup) -> None:
    status, told = call(setup, "VERSION", {"cniVersion": "1.0.0"})
    assert (status, told["cniVersion"]) == (0, "1.0.0")
    assert told["supportedVersions"] == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert call(setup, "VERSION", "")[1]["cniVersion"] == "1.1.0"


def start(setup: Setup, command: str, name: str) -> "subprocess.Popen[bytes]":
    """Begin a command of the program's, and wait for nothing."""
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_IFNAME": "eth0",
        "CNI_CONTAINERID": name,
        "CNI_NETNS": setup.container(name).path,
    }
    pipe = subprocess.PIPE
    words = {"args": [PROGRAM], "env": environment, "stdin": pipe, "stdout": pipe}
    process: subprocess.Popen[bytes] = setup.host(subprocess.Popen, **words)
    assert process.stdin is not None
    process.stdin.write(json.dumps(full()).encode())
    process.stdin.close()
    process.stdin = None
    return process


def test_many_at_once_have_addresses_of_their_own(setup: Setup) -> None:
    names = [f"c{number}" for number in range(20)]
    processes = [start(setup, "ADD", name) for name in names]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        told = [json.loads(out) for out, _ in pool.map(lambda one: one.communicate(), processes)]
    assert not [one for one in told if "code" in one]
    assert len({one["ips"][0]["address"] for one in told}) == 20
    for name in names:
        assert call(setup, "DEL", full(), name) == (0, None)
    nothing_left(setup)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_killed_at_any_moment(setup: Setup, command: str) -> None:
    moments = random.Random(5)
    for _ in range(12):
        if command == "DEL":
            assert call(setup, "ADD", full())[0] == 0
        process = start(setup, command, "one")
        time.sleep(moments.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert call(setup, "DEL", full()) == (0, None)
        nothing_left(setup)
        assert setup.container("one").links() == set()


@pytest.mark.parametrize("ipam", [OTHER, {"type": "host-local", "subnet": "10.8.0.0/24"}])
def test_a_late_delete_leaves_the_next_owner_of_the_address_alone(
    setup: Setup, ipam: dict[str, Any]
) -> None:
    outside = other_network(setup)
    static = {"type": "static", "addresses": [{"address": "10.8.0.2/24", "gateway": "10.8.0.1"}]}
    _, told = call(setup, "ADD", full(cniVersion="1.0.0", ipam=ipam))
    assert call(setup, "DEL", full(cniVersion="1.0.0", ipam=ipam, prevResult=told)) == (0, None)
    assert call(setup, "ADD", full(cniVersion="1.0.0", ipam=static), "two")[0] == 0
    assert call(setup, "DEL", full(cniVersion="1.0.0", ipam=ipam, prevResult=told)) == (0, None)
    assert exchange(outside, setup.container("two"), "192.0.2.2", 80) == "192.0.2.1"
    assert call(setup, "DEL", full(cniVersion="1.0.0", ipam=static), "two") == (0, None)
    setup.host.run("ip", "link", "del", "up0")
    nothing_left(setup)


def test_delete_gives_back_what_a_killed_add_took(setup: Setup) -> None:
    _, told = call(setup, "ADD", full())
    setup.container("one").run("ip", "link", "del", "eth0")
    _, again = call(setup, "ADD", full())
    assert again["ips"] != told["ips"]
    assert len(leases(setup)) == 4
    assert call(setup, "DEL", full(prevResult=again)) == (0, None)
    assert leases(setup) == []
