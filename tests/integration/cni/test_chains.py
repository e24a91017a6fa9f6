"""Debian's plugins, in chains, by each verb: what the kernel then has, and what gets through."""

import subprocess
from typing import Any

import pytest

from orlop.errors import AlreadyExistsError, NotFoundError, OrlopError, UnsupportedError
from orlop.model.network import Bandwidth, PortMapping
from orlop.network.cni import configuration
from orlop.network.cni.cache import Key
from orlop.network.cni.capabilities import Names, Range, Wishes, arguments
from orlop.network.cni.runtime import Attachment
from tests.integration.cni.hosts import exchange
from tests.integration.cni.setup import BRIDGE, DEBIAN, Setup, chain

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
TUNING = {"type": "tuning", "capabilities": {"mac": True}, "sysctl": {"net.core.somaxconn": "77"}}
FIREWALL = {"type": "firewall", "backend": "iptables"}


def leases(setup: Setup) -> list[str]:
    script = "find /var/lib/cni/networks -name '*[.:]*' ! -name 'last*' 2>/dev/null; true"
    return sorted(setup.host(subprocess.check_output, ["sh", "-c", script], text=True).split())


def rules(setup: Setup) -> str:
    return setup.host.run("iptables-save") + setup.host.run("ip6tables-save")


def test_bridge_and_what_follows_it(setup: Setup) -> None:
    network = chain(BRIDGE, PORTMAP, FIREWALL, TUNING, BANDWIDTH)
    wishes = Wishes(
        ports=[PortMapping(protocol="tcp", container_port=80, host_port=8080)],
        bandwidth=Bandwidth(ingress_bps=8_000_000, egress_bps=16_000_000),
        mac="02:11:22:33:44:55",
    )
    one = setup.add(network, "one", **arguments(wishes))
    two = setup.add(network, "two")
    container, other = setup.container("one"), setup.container("two")
    assert [ip.address for ip in one.ips] == ["10.9.0.2/24", "fd00:9::2/64"]
    assert container.addresses("eth0") == {"10.9.0.2/24", "fd00:9::2/64"}
    inside = [i for i in one.interfaces if i.sandbox]
    assert [(i.name, i.mac) for i in inside] == [("eth0", "02:11:22:33:44:55")]
    assert "02:11:22:33:44:55" in container.run("ip", "link", "show", "eth0")
    assert container.run("sysctl", "-n", "net.core.somaxconn").strip() == "77"
    assert exchange(container, other, "10.9.0.2", 80) == "10.9.0.3"
    assert exchange(container, other, "fd00:9::2", 80) == "fd00:9::3"
    assert exchange(container, setup.host, "10.9.0.2", 80) == "10.9.0.1"
    assert exchange(container, setup.host, "10.9.0.1", 80, 8080)
    assert "tbf" in setup.host.run("tc", "qdisc")
    assert [ip.address for ip in two.ips] == ["10.9.0.3/24", "fd00:9::3/64"]
    setup.delete(network, "one")
    setup.delete(network, "two")
    assert container.links() == set()
    assert setup.host.links() == {"cni0"}
    assert leases(setup) == []
    assert "10.9.0." not in rules(setup)
    assert "8080" not in rules(setup)
    assert setup.left() == []


@pytest.mark.parametrize(
    ("first", "address"),
    [
        ({"type": "ptp"}, "10.7.0.2/24"),
        ({"type": "bridge", "bridge": "b0"}, "10.7.0.2/24"),
        ({"type": "macvlan", "master": "up0", "mode": "bridge"}, "10.7.0.2/24"),
    ],
    ids=["ptp", "bridge", "macvlan"],
)
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_drivers_in_all_versions(
    setup: Setup, first: dict[str, Any], address: str, version: str
) -> None:
    setup.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "up1")
    for end in ("up0", "up1"):
        setup.host.run("ip", "link", "set", end, "up")
    ipam = {"type": "host-local", "subnet": "10.7.0.0/24"}
    network = chain({**first, "ipam": ipam}, version=version)
    one = setup.add(network, "one")
    assert [ip.address for ip in one.ips] == [address]
    assert setup.container("one").addresses("eth0") == {address}
    if version < "0.4":
        with pytest.raises(UnsupportedError, match=r"0\.3.*without CHECK"):
            setup.check(network, "one")
    else:
        setup.check(network, "one")  # before the bridge takes the lower MAC of a second port
    setup.add(network, "two")
    assert exchange(setup.container("one"), setup.container("two"), "10.7.0.2", 9)
    setup.delete(network, "one")
    assert setup.container("one").links() == set()


def test_loopback_and_static(setup: Setup) -> None:
    loopback = chain({"type": "loopback"}, name="lo")
    result = setup.add(loopback, "one", "lo")
    assert "127.0.0.1/8" in [ip.address for ip in result.ips]
    static = {"type": "static", "capabilities": {"ips": True, "dns": True}}
    asked = arguments(
        Wishes(addresses=["10.5.0.9/24"], names=Names(["10.5.0.1"], ["here.test"], ["ndots:2"]))
    )
    network = chain(
        {"type": "bridge", "bridge": "b1", "ipam": static, "capabilities": {"ips": True}}
    )
    told = setup.add(network, "one", **asked)
    assert [ip.address for ip in told.ips] == ["10.5.0.9/24"]
    setup.check(network, "one")
    setup.delete(network, "one")
    setup.delete(loopback, "one", "lo")


def test_ranges_are_handed_on(setup: Setup) -> None:
    network = chain(
        {
            "type": "bridge",
            "bridge": "b2",
            "capabilities": {"ipRanges": True},
            "ipam": {"type": "host-local"},
        }
    )
    asked = arguments(Wishes(ranges=[[Range("10.4.0.0/24", "10.4.0.77", "10.4.0.79")]]))
    assert [ip.address for ip in setup.add(network, "one", **asked).ips] == ["10.4.0.77/24"]


def test_capability_that_no_plugin_has_is_not_told(setup: Setup) -> None:
    spy = setup.plugin("spy", f'cat > {setup.folder}/heard; echo "{{}}"')
    setup.add(chain({**spy, "capabilities": {"mac": True, "ips": False}}), "one", mac="x", ips=[1])
    heard = (setup.folder / "heard").read_text()
    assert '"runtimeConfig":{"mac":"x"}' in heard
    assert "capabilities" not in heard


def test_an_attachment_is_made_once(setup: Setup) -> None:
    network = chain(BRIDGE)
    setup.add(network, "one")
    with pytest.raises(AlreadyExistsError, match="one is attached to network net by eth0 already"):
        setup.add(network, "one")
    assert setup.container("one").addresses("eth0") == {"10.9.0.2/24", "fd00:9::2/64"}
    setup.delete(network, "one")
    setup.delete(network, "one")
    setup.add(network, "one")


def test_check_goes_through_the_whole_chain(setup: Setup) -> None:
    bridge = {**BRIDGE, "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"}}
    network = chain(bridge, PORTMAP, FIREWALL, TUNING, BANDWIDTH)
    setup.add(network, "one", **arguments(Wishes(bandwidth=Bandwidth(ingress_bps=8_000_000))))
    setup.check(network, "one")
    setup.container("one").run("sysctl", "-q", "-w", "net.core.somaxconn=78")
    with pytest.raises(OrlopError, match="CNI plugin tuning refused CHECK"):
        setup.check(network, "one")


def test_check_tells_what_is_wrong(setup: Setup) -> None:
    network = chain(BRIDGE)
    with pytest.raises(NotFoundError, match="one is not attached to network net"):
        setup.check(network, "one")
    setup.add(network, "one")
    setup.container("one").run("ip", "address", "flush", "dev", "eth0")
    with pytest.raises(OrlopError, match=r"CNI plugin bridge refused CHECK: .*10\.9\.0\.2"):
        setup.check(network, "one")
    quiet = configuration.parse({**network.document(), "disableCheck": True, "name": "quiet"})
    setup.add(quiet, "one", "eth1")
    setup.container("one").run("ip", "link", "del", "eth1")
    setup.check(quiet, "one", "eth1")


def test_delete_after_restart_uses_what_was_written(setup: Setup) -> None:
    network = chain(BRIDGE, FIREWALL)
    setup.add(network, "one")
    assert "10.9.0.2" in rules(setup)
    again = setup.restarted()
    assert again.attachments() == [Key("net", "one", "eth0")]
    assert again.result(Key("net", "one", "eth0")).ips[0].address == "10.9.0.2/24"
    setup.host(again.delete, Key("net", "one", "eth0"))
    assert "10.9.0.2" not in rules(setup)
    assert leases(setup) == []
    assert setup.left() == []


def test_delete_does_not_enter_another_namespace_of_that_path(setup: Setup) -> None:
    network = chain(BRIDGE)
    setup.add(network, "one")
    path = setup.container("one").path
    fd = setup.container("one").fd
    setup.containers["one"].close()
    other = setup.host.container()
    assert other.path == path, "the kernel gives the lowest free number"
    other.run("ip", "link", "add", "eth0", "type", "bridge")
    setup.delete(network, "one")
    assert other.links() == {"eth0"}
    assert leases(setup) == []
    assert fd == other.fd
    setup.containers["one"] = other


def test_collect_removes_what_nobody_keeps(setup: Setup) -> None:
    network = chain(BRIDGE, PORTMAP)
    port = arguments(Wishes(ports=[PortMapping(protocol="tcp", container_port=1, host_port=8081)]))
    for name in ("one", "two", "three"):
        setup.add(network, name, **(port if name == "two" else {}))
    setup.host(setup.restarted().collect, network, {("one", "eth0")})
    assert setup.cni.attachments() == [Key("net", "one", "eth0")]
    assert [path.rpartition("/")[2] for path in leases(setup)] == ["10.9.0.2", "fd00:9::2"]
    assert "8081" not in rules(setup)
    assert setup.container("two").links() == set()
    assert setup.container("one").links() == {"eth0"}


def test_versions_of_plugins(setup: Setup) -> None:
    assert "1.0.0" in setup.host(setup.cni.versions, "bridge")
    setup.host(setup.cni.validate, chain(BRIDGE, PORTMAP))
    with pytest.raises(UnsupportedError, match=r"bridge does not have version 1\.1\.0"):
        setup.host(setup.cni.validate, chain(BRIDGE, version="1.1.0"))
    setup.host(setup.cni.status, chain(BRIDGE))
    with pytest.raises(NotFoundError, match=f"there is no CNI plugin none in .*{DEBIAN}"):
        setup.host(setup.cni.status, chain({"type": "none"}))


def test_namespace_that_is_bound_to_a_name(setup: Setup) -> None:
    script = f"touch /run/blue; mount --bind {setup.container('one').path} /run/blue"
    setup.host(subprocess.run, ["sh", "-c", script], check=True)
    network = chain(BRIDGE)
    setup.host(setup.cni.add, network, Attachment("one", "/run/blue"))
    assert setup.container("one").links() == {"eth0"}
    setup.delete(network, "one")
    assert setup.container("one").links() == set()
