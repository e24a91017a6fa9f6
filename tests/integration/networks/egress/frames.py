"""Frames that a sandbox with a raw socket may send, to get around what it is held to."""

import hashlib
import struct
from ipaddress import ip_address
from typing import NamedTuple

from orlop.kernel.netlink.wire import hardware

_IP, _ARP, _VLAN, _IP6, _EXPERIMENT = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88B5
_UDP, _TCP, _ICMP, _GRE, _ICMP6, _HOP_BY_HOP, _ROUTING = 17, 6, 1, 47, 58, 0, 43
_FRAGMENT, _OPTIONS, _SCTP = 44, 60, 132
#: What carries packets of others, or is no TCP though it has ports where TCP has them.
_CARRIERS = {
    "IP in IP": 4, "EGP": 8, "DCCP": 33, "IPv6 in IP": 41, "GRE": _GRE, "ESP": 50, "EtherIP": 97,
    "PIM": 103, "L2TP": 115, "UDP-Lite": 136, "MPLS in IP": 137, "an experiment": 253,
}  # fmt: skip
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_LINK_ONLY = "01:80:c2:00:00:0e"  # a bridge hands it to the port's own stack
_PAYLOAD = b"." * 40
_STRANGER = "02:00:00:00:00:99"


class Host(NamedTuple):
    mac: str
    ip: str
    ip6: str

    @property
    def link_local(self) -> str:
        octets = hardware(self.mac)
        identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]).hex(":", 2)
        return f"fe80::{identifier}"


def mark(name: str) -> bytes:
    """Return six bytes by which a frame is known wherever it comes to light."""
    return hashlib.sha256(name.encode()).digest()[:6]


def question(own: Host, peer: Host) -> bytes:
    """Return a frame that *peer* gets from everybody, with the mark of "end"."""
    asked = _arp(own, own.ip, peer.ip, target=mark("end"))
    return _ethernet(own.mac, _BROADCAST, _ARP, asked)


def letter(own: Host, gateway: Host, to: Host) -> bytes:
    """Return a frame for somebody in the world, with the mark of "end"."""
    body = _ip(own.ip, to.ip, _UDP, _udp(mark("end")))
    return _ethernet(own.mac, gateway.mac, _IP, body)


def to_neighbor(own: Host, peer: Host) -> dict[str, bytes]:
    """Return what a bridge would pass on to *peer*, which may not be sent anything."""

    def ip(name: str, source: str = own.ip, to: str = peer.ip) -> bytes:
        return _ip(source, to, _UDP, _udp(mark(name) + _PAYLOAD))

    def plain(name: str, kind: int, body: bytes, to: str = peer.mac) -> None:
        found[name] = _ethernet(own.mac, to, kind, body)

    stranger = _ethernet(_STRANGER, peer.mac, _IP, ip("a stranger's MAC"))
    found = {"a stranger's MAC": stranger, **_to_neighbor6(own, peer)}
    plain("plain", _IP, ip("plain"))
    plain("another's address", _IP, ip("another's address", "10.1.0.77"))
    plain("the peer's own address", _IP, ip("the peer's own address", peer.ip))
    plain("no IP", _EXPERIMENT, mark("no IP") + _PAYLOAD)
    plain("no IP for all", _EXPERIMENT, mark("no IP for all") + _PAYLOAD, _BROADCAST)
    plain("tagged", _VLAN, struct.pack("!HH", 5, _IP) + ip("tagged"))
    snap = b"\xaa\xaa\x03\0\0\0\x08\0" + ip("802.3")
    plain("802.3", len(snap), snap)
    plain("broadcast", _IP, ip("broadcast", to="255.255.255.255"), _BROADCAST)
    plain("multicast", _IP, ip("multicast", to="224.0.0.251"), "01:00:5e:00:00:fb")
    part = _ip(own.ip, peer.ip, _UDP, mark("a fragment") + _PAYLOAD, offset=185)
    plain("a fragment", _IP, part)
    plain("long ARP", _ARP, _arp(own, own.ip, peer.ip) + mark("long ARP") + _PAYLOAD, _BROADCAST)
    lie = _arp(own, "10.1.0.1", peer.ip, target=mark("ARP for the gateway"), operation=2)
    plain("ARP for the gateway", _ARP, lie)
    return found


def _to_neighbor6(own: Host, peer: Host) -> dict[str, bytes]:
    def udp(name: str, source: str = own.ip6, to: str = peer.ip6) -> bytes:
        return _ip6(source, to, _UDP, _udp(mark(name) + _PAYLOAD))

    def plain(name: str, body: bytes, to: str = peer.mac) -> None:
        found[name] = _ethernet(own.mac, to, _IP6, body)

    found: dict[str, bytes] = {}
    plain("IPv6", udp("IPv6"))
    plain("IPv6 of another", udp("IPv6 of another", "fd01::77"))
    plain("link-local", udp("link-local", own.link_local, peer.link_local))
    plain("IPv6 multicast", udp("IPv6 multicast", to="ff02::fb"), "33:33:00:00:00:fb")
    advert = _neighbor(136, own, peer.ip6, "fd01::1", mark("ND for the gateway"))
    plain("ND for the gateway", advert)
    plain("long ND", _neighbor(135, own, peer.ip6, peer.ip6, mark("long ND") + b"." * 56))
    ping = _icmp6(own.ip6, peer.ip6, 128, mark("ping") + _PAYLOAD)
    plain("ping", _ip6(own.ip6, peer.ip6, _ICMP6, ping))
    report = b"\x3a\0\x05\x02\0\0\x01\0" + _icmp6(own.link_local, "ff02::16", 143, mark("MLD"))
    plain("MLD", _ip6(own.link_local, "ff02::16", _HOP_BY_HOP, report), "33:33:00:00:00:16")
    return found


def forged(own: Host, peer: Host, gateway: Host) -> dict[str, bytes]:
    """Return more that *peer* would get by which a neighbour passes for somebody else."""
    stranger = Host(_STRANGER, own.ip, own.ip6)
    told = _arp(stranger, own.ip, peer.ip, target=mark("ARP of a stranger's MAC"), operation=2)
    offer = mark("an answer of DHCP") + _PAYLOAD
    offer = struct.pack("!HHHH", 67, 68, 8 + len(offer), 0) + offer
    offer6 = mark("an answer of DHCPv6") + _PAYLOAD
    offer6 = struct.pack("!HHHH", 547, 546, 8 + len(offer6), 0) + offer6

    def icmp6(name: str, kind: int, body: bytes) -> bytes:
        text = _icmp6(own.link_local, peer.link_local, kind, body + mark(name) + b"..")
        return _ip6(own.link_local, peer.link_local, _ICMP6, text)

    router = bytes([64, 0]) + struct.pack("!HII", 1800, 0, 0)
    redirect = ip_address(own.link_local).packed + ip_address(gateway.ip6).packed
    asked = _icmp6("::", peer.link_local, 135, ip_address(peer.ip6).packed + mark("a twin") + b"..")
    kinds = {
        "ARP of a stranger's MAC": (_ARP, told),
        "an answer of DHCP": (_IP, _ip(own.ip, peer.ip, _UDP, offer)),
        "an answer of DHCPv6": (_IP6, _ip6(own.ip6, peer.ip6, _UDP, offer6)),
        "a router": (_IP6, icmp6("a router", 134, router)),
        "a redirect": (_IP6, icmp6("a redirect", 137, redirect)),
        "a twin": (_IP6, _ip6("::", peer.link_local, _ICMP6, asked)),
    }
    return {name: _ethernet(own.mac, peer.mac, *kind) for name, kind in kinds.items()}


def claim(own: Host, claimed: str, gateway: Host) -> bytes:
    """Return a frame that tells the host that the address *claimed* is here."""
    told = _arp(own, claimed, gateway.ip, target=hardware(gateway.mac), operation=2)
    return _ethernet(own.mac, gateway.mac, _ARP, told)


def to_host(own: Host, gateway: Host) -> dict[str, bytes]:
    """Return what the host would take for itself: of the bridge, and of the port alone."""
    found = {}
    for name, to in (("to the host", gateway.mac), ("by the port", _LINK_ONLY)):
        body = _ip(own.ip, gateway.ip, _UDP, _udp(mark(name) + _PAYLOAD))
        found[name] = _ethernet(own.mac, to, _IP, body)
    return found


def to_world(own: Host, gateway: Host, peer: Host, world: Host, listed: Host) -> dict[str, bytes]:
    """Return what a router would pass on to the *world*, of which only *listed* may be sent to."""
    found = {}

    def frame(
        name: str, kind: int, body: bytes, source: str = own.mac, to: str = gateway.mac
    ) -> None:
        found[name] = _ethernet(source, to, kind, body)

    def ip(name: str, source: str = own.ip, protocol: int = _UDP) -> bytes:
        body = mark(name) + _PAYLOAD
        return _ip(source, world.ip, protocol, _udp(body) if protocol == _UDP else body)

    frame("out", _IP, ip("out"))
    frame("out as the peer", _IP, ip("out as the peer", peer.ip), peer.mac)
    frame("out as the peer's address", _IP, ip("out as the peer's address", peer.ip))
    frame("GRE", _IP, ip("GRE", protocol=_GRE))
    frame("ICMP", _IP, _ip(own.ip, world.ip, _ICMP, _icmp(mark("ICMP") + _PAYLOAD)))
    middle = struct.pack("!HHIIBBHHH", 7000, 7000, 1, 1, 0x50, 0x10, 512, 0, 0)
    frame("amid TCP", _IP, _ip(own.ip, world.ip, _TCP, middle + mark("amid TCP")))
    route = struct.pack("!BBB4sx", 0x83, 7, 4, ip_address(world.ip).packed)
    routed = _ip(own.ip, listed.ip, _UDP, _udp(mark("source route") + _PAYLOAD), options=route)
    frame("source route", _IP, routed)
    frame("IPv6 out", _IP6, _ip6(own.ip6, world.ip6, _UDP, _udp(mark("IPv6 out") + _PAYLOAD)))
    solicit = _neighbor(135, own, world.ip6, world.ip6, mark("ND out"))
    frame("ND out", _IP6, solicit)
    header = struct.pack("!BBBBI16s", _UDP, 2, 4, 1, 0, ip_address(world.ip6).packed)
    routed = _ip6(own.ip6, listed.ip6, _ROUTING, header + _udp(mark("IPv6 route") + _PAYLOAD))
    frame("IPv6 route", _IP6, routed)
    return found


def past_a_port(own: Host, gateway: Host, to: Host, port: int) -> dict[str, bytes]:
    """Return what tunnels would send to a host that may only be sent TCP, to one port."""
    ports = struct.pack("!HH", 7000, port)
    found = {}
    for version, (source, host, icmp) in {
        4: (own.ip, to.ip, _icmp),
        6: (own.ip6, to.ip6, lambda body: _icmp6(own.ip6, to.ip6, 128, body)),
    }.items():

        def packet(name: str, protocol: int, head: bytes = ports) -> None:
            body = head + mark(f"{name}, IPv{version}") + _PAYLOAD  # noqa: B023 (called at once)
            made = _packet(source, host, protocol, body)  # noqa: B023
            found[f"{name}, IPv{version}"] = made  # noqa: B023

        for name, protocol in _CARRIERS.items():
            packet(name, protocol)
        packet("UDP", _UDP, ports + struct.pack("!HH", 8 + 6 + len(_PAYLOAD), 0))
        packet("SCTP", _SCTP, ports + bytes(8))
        packet("another port of TCP", _TCP, _segment(port + 1))
        ping = icmp(mark(f"ping, IPv{version}") + _PAYLOAD)
        found[f"ping, IPv{version}"] = _packet(
            source, host, _ICMP if version == 4 else _ICMP6, ping
        )
    found |= _errors(own, to, port) | _fragments(own, to, port) | _fragments6(own, to, port)
    kinds = {4: _IP, 6: _IP6}
    return {
        name: _ethernet(own.mac, gateway.mac, kinds[body[0] >> 4], body)
        for name, body in found.items()
    }


def segment(own: Host, gateway: Host, to: Host, port: int) -> bytes:
    """Return a frame with a part of a TCP connection, with the mark of "end"."""
    body = _packet(own.ip, to.ip, _TCP, _segment(port) + mark("end"))
    return _ethernet(own.mac, gateway.mac, _IP, body)


def _errors(own: Host, to: Host, port: int) -> dict[str, bytes]:
    """Return ICMP errors about connections that nobody has."""
    told = _packet(to.ip, own.ip, _TCP, _segment(port) + mark("an error"))
    text = b"\x03\x01" + _checksum(b"\x03\x01" + bytes(6) + told) + bytes(4) + told
    told6 = _packet(to.ip6, own.ip6, _TCP, _segment(port) + mark("an error, IPv6"))
    return {
        "an error": _packet(own.ip, to.ip, _ICMP, text),
        "an error, IPv6": _packet(own.ip6, to.ip6, _ICMP6, _icmp6(own.ip6, to.ip6, 1, told6)),
    }


def _fragments(own: Host, to: Host, port: int) -> dict[str, bytes]:
    def part(name: str, body: bytes, at: int, *, more: bool, protocol: int, number: int) -> None:
        offset = at // 8 | more << 13
        body += mark(name) + b".."
        found[name] = _ip(own.ip, to.ip, protocol, body, offset=offset, number=number)

    found: dict[str, bytes] = {}
    head = struct.pack("!HHHH", 7000, port, 32, 0)
    part("UDP's first part", head, 0, more=True, protocol=_UDP, number=11)
    part("UDP's second part", bytes(8), 16, more=False, protocol=_UDP, number=11)
    part("TCP's second part", bytes(40), 64, more=False, protocol=_TCP, number=12)
    part(
        "the ports that are listed", ports := _segment(port), 0, more=True, protocol=_TCP, number=13
    )
    part("other ports", _segment(port + 1), 0, more=True, protocol=_TCP, number=13)
    part("what follows", ports, len(ports) + 8, more=False, protocol=_TCP, number=13)
    return found


def _fragments6(own: Host, to: Host, port: int) -> dict[str, bytes]:
    def part(name: str, following: int, body: bytes, at: int, *, more: bool, number: int) -> None:
        head = struct.pack("!BBHI", following, 0, at | more, number)
        found[name] = _ip6(own.ip6, to.ip6, _FRAGMENT, head + body + mark(name) + b"..")

    found: dict[str, bytes] = {}
    head = struct.pack("!HHHH", 7000, port, 32, 0)
    part("UDP's first part, IPv6", _UDP, head, 0, more=True, number=21)
    part("UDP's second part, IPv6", _UDP, bytes(8), 16, more=False, number=21)
    options = struct.pack("!BBBB4x", _UDP, 1, 1, 12)  # padding, which has the mark
    part("options before UDP", _OPTIONS, options, 0, more=True, number=22)
    part("UDP after them", _OPTIONS, head, 16, more=False, number=22)
    return found


def _packet(source: str, to: str, protocol: int, body: bytes) -> bytes:
    return (_ip6 if ":" in source else _ip)(source, to, protocol, body)


def _segment(port: int) -> bytes:
    return struct.pack("!HHIIBBHHH4x", 7000, port, 1, 1, 0x60, 0x10, 512, 0, 0)


def _ethernet(source: str, to: str, kind: int, body: bytes) -> bytes:
    return hardware(to) + hardware(source) + struct.pack("!H", kind) + body


def _udp(body: bytes) -> bytes:
    return struct.pack("!HHHH", 7000, 7000, 8 + len(body), 0) + body


def _ip(
    source: str, to: str, protocol: int, body: bytes,
    *, options: bytes = b"", offset: int = 0, number: int = 7,
) -> bytes:  # fmt: skip
    words = 5 + len(options) // 4
    ends = ip_address(source).packed + ip_address(to).packed
    start = struct.pack(
        "!BBHHHBB", 0x40 | words, 0, words * 4 + len(body), number, offset, 64, protocol
    )
    return start + _checksum(start + b"\0\0" + ends + options) + ends + options + body


def _ip6(source: str, to: str, following: int, body: bytes) -> bytes:
    ends = ip_address(source).packed + ip_address(to).packed
    return struct.pack("!IHBB", 6 << 28, len(body), following, 255) + ends + body


def _icmp(body: bytes) -> bytes:
    text = struct.pack("!HH", 7, 1) + body
    return b"\x08\0" + _checksum(b"\x08\0\0\0" + text) + text


def _icmp6(source: str, to: str, kind: int, body: bytes) -> bytes:
    text = struct.pack("!I", 0) + body + b"\0" * (len(body) % 2)
    ends = ip_address(source).packed + ip_address(to).packed
    pseudo = ends + struct.pack("!II", 4 + len(text), _ICMP6)
    return bytes([kind, 0]) + _checksum(pseudo + bytes([kind, 0, 0, 0]) + text) + text


def _neighbor(kind: int, own: Host, to: str, target: str, option: bytes) -> bytes:
    body = ip_address(target).packed + bytes([1, (2 + len(option)) // 8]) + option
    return _ip6(own.ip6, to, _ICMP6, _icmp6(own.ip6, to, kind, body))


def _arp(own: Host, source: str, to: str, *, target: bytes = bytes(6), operation: int = 1) -> bytes:
    start = struct.pack("!HHBBH", 1, _IP, 6, 4, operation)
    return start + hardware(own.mac) + ip_address(source).packed + target + ip_address(to).packed


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
