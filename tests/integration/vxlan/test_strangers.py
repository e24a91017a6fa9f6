"""Who is no member gets nothing in, and nothing to grow."""

import contextlib
import os
import socket
import struct

import pytest

from orlop.engine.peers import handshake
from orlop.engine.peers.token import Token, parse
from tests.integration.vxlan.hosts import (
    AgentError,
    Capture,
    Container,
    Host,
    Underlay,
    connected,
    inside,
    run,
    until,
)


def tunnelled(network: dict[str, str], to: Container, source: str, port: int) -> bytes:
    """Return a VXLAN packet's payload: a UDP packet for a container."""
    packet = datagram(source, to.ipv4, port, b"from outside")
    return framed(network, to.mac, "02:00:00:00:00:01", b"\x08\x00" + packet)


def framed(network: dict[str, str], to: str, source: str, body: bytes) -> bytes:
    vxlan = struct.pack("!II", 0x08000000, int(network["vni"]) << 8)
    return vxlan + bytes.fromhex((to + source).replace(":", "")) + body


def datagram(source: str, to: str, port: int, data: bytes) -> bytes:
    udp = struct.pack("!HHHH", 9, port, 8 + len(data), 0) + data
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
        socket.inet_aton(source), socket.inet_aton(to),
    )  # fmt: skip
    return ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + udp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def arrives(sender: int, host: Host, network: dict[str, str], container: Container) -> bool:
    """Whether a packet that *sender* puts into the tunnel reaches the container."""
    with inside(container.pid):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(sender):
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((container.ipv4, 0))
        ear.settimeout(0.5)
        packet = tunnelled(network, container, "10.20.0.200", ear.getsockname()[1])
        mouth.sendto(packet, (host.ipv4, 4789))
        with contextlib.suppress(TimeoutError):
            return ear.recv(100) == b"from outside"
    return False


def test_vxlan_packet_of_a_stranger_is_dropped(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    network = one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})["options"]
    two.do("join", one.do("token"))
    container, stranger = one.attach("c"), underlay.stranger()
    until(lambda: arrives(two.pid, one, network, container))  # as it would from a member
    assert not arrives(stranger, one, network, container)
    run(one.pid, "nft", "flush", "ruleset")
    assert arrives(stranger, one, network, container)
    one.do("create_again")  # as an engine does that sees it
    assert not arrives(stranger, one, network, container)
    assert arrives(two.pid, one, network, container)
    two.do("leave")
    until(lambda: len(one.do("members")) == 1)
    until(lambda: not arrives(two.pid, one, network, container))


def test_no_other_vni_and_no_fragment_gets_a_packet_in(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    network = one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})["options"]
    two.do("join", one.do("token"))
    container, stranger = one.attach("c"), underlay.stranger()
    until(lambda: arrives(two.pid, one, network, container))
    other = {**network, "vni": str(int(network["vni"]) ^ 1)}
    assert not arrives(two.pid, one, other, container)
    for pid in (two.pid, stranger):
        run(pid, "ip", "link", "set", "eth0", "mtu", "68")  # so that the packet comes in parts
    assert arrives(two.pid, one, network, container)
    assert not arrives(stranger, one, network, container)


def test_a_member_passes_for_nobody_who_is_here(underlay: Underlay) -> None:
    """Neither for a container nor for the host, which is the way out."""
    one, two = underlay.add(), underlay.add()
    found = one.do("found", ["10.20.0.0/24", "fd20::/64"], {"local": one.ipv4})
    two.do("join", one.do("token"))
    victim, beside = one.attach("victim"), one.attach("beside")
    gateway, gateway6 = found["gateways"]
    bridge = run(one.pid, "ip", "-br", "link", "show", "type", "bridge").split()[2]
    evil = "02:00:00:00:00:66"
    lies = {
        "its MAC": (beside.mac, _datagram("10.20.0.200", victim)),
        "the bridge's MAC": (bridge, _datagram("10.20.0.201", victim)),
        "its address": (evil, _datagram(beside.ipv4, victim)),
        "the gateway's address": (evil, _datagram(gateway, victim)),
        "ARP for it": (evil, _arp(evil, beside.ipv4, victim)),
        "ARP for the gateway": (evil, _arp(evil, gateway, victim)),
        "ARP with its MAC": (evil, _arp(beside.mac, "10.20.0.202", victim)),
        "ND for the gateway": (evil, _advert(evil, gateway6, "fd20::beef", victim)),
        "IPv6 of it": (evil, _advert(evil, "fd20::beef", beside.ipv6, victim)),
    }
    truth = {
        "another's": (evil, _datagram("10.20.0.210", victim)),
        "ARP of another": (evil, _arp(evil, "10.20.0.211", victim)),
        "ND of another": (evil, _advert(evil, "fd20::beef", "fd20::beef", victim)),
    }
    assert _come(two, one, found["options"], victim, lies | truth, last=truth) == {*truth}
    run(one.pid, "nft", "flush", "ruleset")
    everything = lies | truth
    assert _come(two, one, found["options"], victim, everything, last=everything) == {*everything}
    one.do("create_again")
    assert _come(two, one, found["options"], victim, lies | truth, last=truth) == {*truth}
    beside_was = beside.ipv4
    one.do("detach", "beside")
    moved = {"one that has left": (evil, _datagram(beside_was, victim))}
    assert _come(two, one, found["options"], victim, moved, last=moved) == {*moved}


_Frames = dict[str, tuple[str, bytes]]


def _come(
    sender: Host,
    host: Host,
    network: dict[str, str],
    to: Container,
    frames: _Frames,
    *,
    last: _Frames,
) -> set[str]:
    """Send *frames* until the *last* of them have come; return which have."""
    capture = Capture(to.pid, "eth0")
    with inside(sender.pid):
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    seen: set[str] = set()

    def all_come() -> bool:
        for source, body in (frames | last).values():
            mouth.sendto(framed(network, to.mac, source, body), (host.ipv4, 4789))
        for frame in capture.frames():
            seen.update(
                n for n, (mac, body) in frames.items() if body in frame and _from(frame) == mac
            )
        return seen >= {*last}

    with mouth:
        until(all_come)
    capture.close()
    return seen


def _from(frame: bytes) -> str:
    return frame[6:12].hex(":")


def _datagram(source: str, to: Container) -> bytes:
    return b"\x08\x00" + datagram(source, to.ipv4, 9, b"a lie" + source.encode())


def _arp(mac: str, address: str, to: Container) -> bytes:
    macs = [bytes.fromhex(each.replace(":", "")) for each in (mac, to.mac)]
    addresses = [socket.inet_aton(each) for each in (address, to.ipv4)]
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return b"\x08\x06" + head + macs[0] + addresses[0] + macs[1] + addresses[1]


def _advert(mac: str, target: str, source: str, to: Container) -> bytes:
    """Return a neighbour advertisement; its checksum is nobody's concern here."""
    ends = [socket.inet_pton(socket.AF_INET6, each) for each in (source, to.ipv6, target)]
    option = b"\x02\x01" + bytes.fromhex(mac.replace(":", ""))
    text = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + ends[2] + option
    head = struct.pack("!IHBB", 6 << 28, len(text), 58, 255)
    return b"\x86\xdd" + head + ends[0] + ends[1] + text


def test_other_tunnels_of_the_host_are_left_alone(underlay: Underlay) -> None:
    one = underlay.network(1)[0]
    stranger = underlay.stranger()
    for pid, number in ((one.pid, 1), (stranger, 101)):
        run(
            pid, "ip", "link", "add", "vx", "type", "vxlan", "id", "9", "dstport", "4789",
            "local", f"10.99.0.{number}", "remote", f"10.99.0.{102 - number}",
        )  # fmt: skip
        run(pid, "ip", "addr", "add", f"10.77.0.{number}/24", "dev", "vx")
        run(pid, "ip", "link", "set", "vx", "up")
    assert "1 packets received" in run(stranger, "busybox", "ping", "-c1", "-W3", "10.77.0.1")


def test_wrong_token_is_refused_and_leaves_nothing(underlay: Underlay) -> None:
    one, two = underlay.add(), underlay.add()
    one.do("found", ["10.20.0.0/24"], {"local": one.ipv4})
    token = parse(one.do("token"))
    wrong = token._replace(secret=os.urandom(32))
    with pytest.raises(AgentError, match=r"PermissionDeniedError: 10\.99\.0\.1 port 4789 does not"):
        two.do("join", str(wrong))
    unknown = token._replace(network=os.urandom(32).hex())
    with pytest.raises(AgentError, match=r"PermissionDeniedError: 10\.99\.0\.1 port 4789 does not"):
        two.do("join", str(unknown))
    with pytest.raises(AgentError, match="InvalidArgumentError: this is no join token"):
        two.do("join", str(token)[:-3])
    nowhere = Token(token.network, token.secret, (("10.99.0.1", 5), ("10.99.0.1", 6)))
    with pytest.raises(AgentError, match=r"no member .* can be reached: 10\.99\.0\.1 port 5: c"):
        two.do("join", str(nowhere))
    assert len(one.do("members")) == 1
    assert run(two.pid, "ip", "-br", "link", "show", "type", "vxlan") == ""
    assert run(two.pid, "ss", "-Hltn") == ""


def test_strangers_on_the_port_make_nothing_grow(underlay: Underlay) -> None:
    one = underlay.network(1)[0]
    known = parse(one.do("token"))
    stranger = underlay.stranger()
    _pester(stranger, one, known, rounds=1)
    before = one.do("memory")
    _pester(stranger, one, known, rounds=30)
    assert one.do("memory") - before < 4096  # KiB
    lines = [line for line in one.log().splitlines() if "strangers" in line]
    assert len(lines) == 1
    assert len(one.do("members")) == 1
    two = underlay.add()
    two.do("join", one.do("token"))
    until(lambda: connected(one) == 2)


def _pester(stranger: int, host: Host, token: Token, *, rounds: int) -> None:
    """Connect often and say: nothing, rubbish, half of an opening, an opening and a wrong proof."""
    opening = handshake.opening(token.network)
    for _ in range(rounds):
        held = []
        for words in (b"", os.urandom(500), opening[:50], opening + os.urandom(32)) * 10:
            with inside(stranger):
                client = socket.socket()
            client.settimeout(3)
            with contextlib.suppress(OSError):
                client.connect((host.ipv4, 4789))
                client.sendall(words)
            held.append(client)
        for client in held:
            client.close()


def test_member_that_tells_nonsense_is_cut_off(underlay: Underlay) -> None:
    """One that has the secret is believed much, but not what cannot be."""
    one = underlay.network(1)[0]
    token = parse(one.do("token"))
    with inside(underlay.stranger()):
        client = socket.socket()
    with client:
        client.settimeout(5)
        client.connect((one.ipv4, 4789))
        opening = handshake.opening(token.network)
        client.sendall(opening)
        keys = handshake.keys(token.secret, opening, client.recv(32))
        client.sendall(keys.dialer_proof)
        assert client.recv(32) == keys.listener_proof
        client.sendall((1 << 30).to_bytes(4, "big"))  # a gigabyte is to come
        assert client.recv(100) == b""
    assert len(one.do("members")) == 1
