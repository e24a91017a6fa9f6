"""Real packets between containers on different hosts."""

import socket

import pytest

from tests.integration.vxlan.hosts import (
    AgentError,
    Capture,
    Host,
    Underlay,
    exchange,
    inside,
    run,
    until,
)

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.parametrize("ipv6_underlay", [False, True], ids=["over IPv4", "over IPv6"])
def test_containers_of_two_hosts_talk(underlay: Underlay, ipv6_underlay: bool) -> None:
    one, two = underlay.network(2, ipv6_underlay=ipv6_underlay)
    here, there = one.attach("here"), two.attach("there")
    for kind in (TCP, UDP):
        for address in (there.ipv4, there.ipv6):
            assert here.says(there, kind, address) == b"echo: hello"
        for address in (here.ipv4, here.ipv6):
            assert there.says(here, kind, address) == b"echo: hello"


def test_containers_of_three_hosts_talk_and_so_do_the_hosts(underlay: Underlay) -> None:
    hosts = underlay.network(3)
    containers = [host.attach("c") for host in hosts]
    for here in containers:
        for there in (each for each in containers if each is not here):
            assert here.says(there, TCP, there.ipv4) == b"echo: hello"
            assert here.says(there, UDP, there.ipv6) == b"echo: hello"
    assert exchange(hosts[0].pid, containers[2].pid, TCP, containers[2].ipv4) == b"echo: hello"


@pytest.mark.parametrize("ipv6_underlay", [False, True], ids=["over IPv4", "over IPv6"])
def test_full_packets_pass_in_one_piece(underlay: Underlay, ipv6_underlay: bool) -> None:
    one, two = underlay.network(2, ipv6_underlay=ipv6_underlay)
    here, there = one.attach("here"), two.attach("there")
    mtu = _mtu(here.pid)
    assert mtu == 1500 - (70 if ipv6_underlay else 50)
    capture = Capture(underlay.switch.pid, "port2")
    assert _send_whole(here.pid, there.pid, there.ipv4, mtu - 28) == mtu - 28
    sizes = [len(frame) for frame in capture.frames() if len(frame) > 1400]
    assert sizes == [14 + 1500]  # the underlay's largest, and one of them
    with pytest.raises(OSError, match="too long"):
        _send_whole(here.pid, there.pid, there.ipv4, mtu - 27)
    capture.close()


def _mtu(pid: int) -> int:
    words = run(pid, "ip", "link", "show", "eth0").split()
    return int(words[words.index("mtu") + 1])


def _send_whole(here: int, there: int, address: str, size: int) -> int:
    """Send a UDP packet that nobody may cut; return how much arrives."""
    with inside(there):
        server = socket.socket(socket.AF_INET, UDP)
    with inside(here):
        client = socket.socket(socket.AF_INET, UDP)
    with server, client:
        server.bind((address, 0))
        server.settimeout(5)
        client.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: IP_PMTUDISC_DO
        client.sendto(b"x" * size, server.getsockname())
        return len(server.recv(1 << 16))


def test_nothing_between_known_peers_reaches_a_third(underlay: Underlay) -> None:
    one, two, _ = underlay.network(3)
    here, there = one.attach("here"), two.attach("there")
    _wait_for_entry(one, there.mac)
    _wait_for_entry(two, here.mac)
    to_three = Capture(underlay.switch.pid, "port3")
    to_two = Capture(underlay.switch.pid, "port2")
    to_three.frames()
    for kind in (TCP, UDP):
        assert here.says(there, kind, there.ipv4) == b"echo: hello"
        assert here.says(there, kind, there.ipv6) == b"echo: hello"
    macs = {bytes.fromhex(c.mac.replace(":", "")) for c in (here, there)}
    assert [f for f in to_three.tunnelled() if f[6:12] in macs and f[0] & 1 == 0] == []
    seen = to_two.tunnelled()
    assert len([f for f in seen if f[6:12] in macs]) > 8
    asked = [f for f in seen if f[12:14] == b"\x08\x06"]  # ARP
    asked += [f for f in seen if f[12:14] == b"\x86\xdd" and f[54] == 135]  # neighbour solicited
    assert asked == []  # answered by the bridge of each host
    to_three.close()
    to_two.close()


def test_a_tunnel_has_no_address_and_says_nothing_itself(underlay: Underlay) -> None:
    one = underlay.network(1)[0]
    name = run(one.pid, "ip", "-br", "link", "show", "type", "vxlan").split()[0]
    assert "inet6" in run(one.pid, "ip", "address", "show", "dev", "eth0")
    assert "inet" not in run(one.pid, "ip", "address", "show", "dev", name)


def _wait_for_entry(host: Host, mac: str) -> None:
    until(lambda: mac in host.entries())


def test_what_nobody_knows_goes_to_every_host(underlay: Underlay) -> None:
    one = underlay.network(3)[0]
    here = one.attach("here")
    captures = [Capture(underlay.switch.pid, f"port{n}") for n in (2, 3)]
    run(here.pid, "ip", "neigh", "add", "10.20.0.250", "lladdr", "02:00:00:00:00:99", "dev", "eth0")
    with pytest.raises(OSError, match="timed out"):
        _shout(here.pid)
    for capture in captures:
        assert any(f[:6] == bytes.fromhex("020000000099") for f in capture.tunnelled())
        capture.close()


def _shout(pid: int) -> None:
    with inside(pid), socket.socket(socket.AF_INET, UDP) as client:
        client.settimeout(0.3)
        client.sendto(b"anybody", ("10.20.0.250", 9))
        client.recv(10)


def test_multicast_group_carries_what_nobody_knows(underlay: Underlay) -> None:
    one, two = underlay.network(2, group="239.1.2.3")
    assert "239.1.2.3" in run(one.pid, "ip", "-d", "link", "show", "type", "vxlan")
    here, there = one.attach("here"), two.attach("there")
    here.hears(there)
    capture = Capture(underlay.switch.pid, "port2")
    run(here.pid, "ip", "neigh", "add", "10.20.0.250", "lladdr", "02:00:00:00:00:99", "dev", "eth0")
    with pytest.raises(OSError, match="timed out"):
        _shout(here.pid)
    assert any(f[:6] == bytes.fromhex("020000000099") for f in capture.tunnelled())
    capture.close()


def test_host_with_a_smaller_underlay_cannot_join(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})
    run(two.pid, "ip", "link", "set", "eth0", "mtu", "1400")
    with pytest.raises(AgentError, match=r"packets of 1450 bytes do not fit .* eth0 carries 1350"):
        two.do("join", one.do("token"))
    assert run(two.pid, "ip", "-br", "link", "show", "type", "vxlan") == ""
    assert len(one.do("members")) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vni": "0"}, "option vni is no number from 1 to 16777215"),
        ({"port": "99999"}, "option port is no number"),
        ({"local": "10.99.0.77"}, "10.99.0.77 is no address of this host"),
        ({"local": "nowhere"}, "option local is no address"),
        ({"group": "10.0.0.1"}, "no multicast address"),
        ({"com.docker.network.driver.mtu": "1500"}, "do not fit into the tunnel"),
        ({"parent": "eth7"}, "eth7 has no address"),
    ],
)
def test_bad_option_is_refused_in_one_clear_sentence(
    underlay: Underlay, options: dict[str, str], said: str
) -> None:
    host = underlay.add()
    with pytest.raises(AgentError, match=said):
        host.do("found", ["10.20.0.0/24"], options)
    assert run(host.pid, "ip", "-br", "link", "show", "type", "vxlan") == ""


def test_vni_that_is_in_use_is_refused_and_none_is_chosen_twice(underlay: Underlay) -> None:
    host = underlay.add()
    run(host.pid, "ip", "link", "add", "vx", "type", "vxlan", "id", "77", "dstport", "4789")
    with pytest.raises(AgentError, match="VNI 77 is in use"):
        host.do("found", ["10.20.0.0/24"], {"vni": "77"})
    chosen = host.do("found", ["10.20.0.0/24"], {})["options"]
    assert chosen["vni"] != "77"
    assert chosen["local"] == host.ipv4
