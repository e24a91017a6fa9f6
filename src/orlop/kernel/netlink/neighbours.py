"""Neighbour tables and forwarding entries. rtnetlink(7), <linux/neighbour.h>."""

from __future__ import annotations

import struct

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import (
    APPEND,
    PLAIN,
    REPLACE,
    Request,
    attribute,
    attributes,
    family_of,
    hardware,
    hardware_text,
    number,
    packed,
    u16_network,
    u32,
    unpacked,
)
from orlop.model.light import NamedTuple

_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_LLADDR, _NDA_PORT, _NDA_VNI, _NDA_IFINDEX = 1, 2, 6, 7, 8
_NTF_SELF, _NTF_MASTER = 2, 4
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_AF_BRIDGE = 7

#: Broadcasts, and frames to addresses without an entry.
EVERYONE = "00:00:00:00:00:00"

_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, index, state, flags, type


class Neighbour(NamedTuple):
    """An address on an interface's link, and its MAC address."""

    ifindex: int  # the interface's
    address: str
    mac: str
    permanent: bool


class Forward(NamedTuple):
    """Where frames for a MAC address go: to a bridge's port, or to a tunnel's peer."""

    ifindex: int  # the port or the tunnel
    mac: str
    destination: str = ""  # the peer's address
    port: int = 0  # the peer's; 0 for the tunnel's own
    vni: int = 0  # 0 for the tunnel's own
    permanent: bool = True
    master: bool = False  # an entry of the bridge above the port, not of the tunnel itself


def add(index: int, address: str, mac: str) -> Request:
    """Add a permanent neighbour: the MAC of *address* on the link of interface *index*."""
    body = _NEIGHBOUR.pack(family_of(address), index, _NUD_PERMANENT, 0, 0)
    body += attribute(_NDA_DST, packed(address)) + attribute(_NDA_LLADDR, hardware(mac))
    return Request(_RTM_NEWNEIGH, REPLACE, body, address)


def remove(index: int, address: str) -> Request:
    body = _NEIGHBOUR.pack(family_of(address), index, 0, 0, 0) + attribute(
        _NDA_DST, packed(address)
    )
    return Request(_RTM_DELNEIGH, PLAIN, body, address)


def forward(entry: Forward) -> Request:
    """Add a forwarding entry; EVERYONE may have many, one for each destination."""
    flags = APPEND if entry.mac == EVERYONE else REPLACE
    return Request(_RTM_NEWNEIGH, flags, _forward(entry), entry.mac)


def stop_forwarding(entry: Forward) -> Request:
    return Request(_RTM_DELNEIGH, PLAIN, _forward(entry), entry.mac)


def each(netlink: Netlink, index: int, family: int) -> list[Neighbour]:
    """Return the neighbours that interface *index* knows."""
    body = _NEIGHBOUR.pack(family, 0, 0, 0, 0) + u32(_NDA_IFINDEX, index)
    found = []
    for answer in netlink.dump(_RTM_GETNEIGH, body, "neighbours"):
        _, of, state, _, _ = _NEIGHBOUR.unpack_from(answer)
        parts = attributes(answer, _NEIGHBOUR.size)
        if of == index and _NDA_DST in parts and _NDA_LLADDR in parts:
            mac = hardware_text(parts[_NDA_LLADDR])
            permanent = bool(state & _NUD_PERMANENT)
            found.append(Neighbour(of, unpacked(parts[_NDA_DST]), mac, permanent))
    return found


def each_forward(netlink: Netlink, index: int) -> list[Forward]:
    """Return the forwarding entries of interface *index*, the tunnel's own and its bridge's."""
    body = _NEIGHBOUR.pack(_AF_BRIDGE, index, 0, 0, 0)
    found = []
    for answer in netlink.dump(_RTM_GETNEIGH, body, "forwarding entries"):
        _, of, state, flags, _ = _NEIGHBOUR.unpack_from(answer)
        parts = attributes(answer, _NEIGHBOUR.size)
        if of != index or _NDA_LLADDR not in parts:
            continue
        to = parts.get(_NDA_DST)
        found.append(
            Forward(
                ifindex=of,
                mac=hardware_text(parts[_NDA_LLADDR]),
                destination="" if to is None else unpacked(to),
                port=int.from_bytes(parts.get(_NDA_PORT, b""), "big"),
                vni=number(parts.get(_NDA_VNI, b"")),
                permanent=bool(state & _NUD_PERMANENT),
                master=not flags & _NTF_SELF,
            )
        )
    return found


def _forward(entry: Forward) -> bytes:
    state = _NUD_NOARP | (_NUD_PERMANENT if entry.permanent else 0)
    flags = _NTF_MASTER if entry.master else _NTF_SELF
    body = _NEIGHBOUR.pack(_AF_BRIDGE, entry.ifindex, state, flags, 0)
    body += attribute(_NDA_LLADDR, hardware(entry.mac))
    if entry.destination:
        body += attribute(_NDA_DST, packed(entry.destination))
    if entry.port:
        body += u16_network(_NDA_PORT, entry.port)
    if entry.vni:
        body += u32(_NDA_VNI, entry.vni)
    return body
