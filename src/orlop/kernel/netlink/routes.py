"""Routes. rtnetlink(7), <linux/rtnetlink.h>."""

from __future__ import annotations

import struct

from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.wire import (
    PLAIN,
    REPLACE,
    Request,
    attribute,
    attributes,
    family_of,
    number,
    packed,
    split_prefix,
    u32,
    unpacked,
)
from orlop.model.light import NamedTuple

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_ONLINK = 4
_AF_INET = 2

MAIN = 254
_LOCAL = 255

_ROUTE = struct.Struct("=8BI")  # rtmsg: family, lengths, tos, table, protocol, scope, type, flags


class Route(NamedTuple):
    """The route of packets for *destination*."""

    destination: str  # "10.0.0.0/8", "0.0.0.0/0"
    gateway: str = ""
    ifindex: int = 0  # of the interface
    source: str = ""
    metric: int = 0
    on_link: bool = False  # the gateway is on the link, even if no address says so
    table: int = MAIN

    def body(self) -> bytes:
        """Return the message for it."""
        bare, prefix = split_prefix(self.destination)
        family = family_of(bare)
        scope = _RT_SCOPE_UNIVERSE if self.gateway or family != _AF_INET else _RT_SCOPE_LINK
        flags = _RTNH_F_ONLINK if self.on_link else 0
        table = self.table if self.table < 256 else 0
        lengths = (family, prefix, 0, 0, table, _RTPROT_BOOT, scope, _RTN_UNICAST)
        parts = _ROUTE.pack(*lengths, flags)
        if prefix:
            parts += attribute(_RTA_DST, packed(bare))
        if self.gateway:
            parts += attribute(_RTA_GATEWAY, packed(self.gateway))
        if self.ifindex:
            parts += u32(_RTA_OIF, self.ifindex)
        if self.source:
            parts += attribute(_RTA_PREFSRC, packed(self.source))
        if self.metric:
            parts += u32(_RTA_PRIORITY, self.metric)
        return parts + u32(_RTA_TABLE, self.table)


def add(route: Route) -> Request:
    """Add the route, replacing one with the same destination (and the same metric)."""
    return Request(_RTM_NEWROUTE, REPLACE, route.body(), f"route to {route.destination}")


def add_local(address: str, ifindex: int, metric: int) -> Request:
    """Accept packets for *address* as our own, also if they come in by interface *ifindex*."""
    family, prefix = family_of(address), 128 if ":" in address else 32
    body = _ROUTE.pack(family, prefix, 0, 0, _LOCAL, _RTPROT_BOOT, 0, _RTN_LOCAL, 0)
    body += attribute(_RTA_DST, packed(address)) + u32(_RTA_OIF, ifindex)
    return Request(_RTM_NEWROUTE, REPLACE, body + u32(_RTA_PRIORITY, metric), f"route to {address}")


def remove(route: Route) -> Request:
    return Request(_RTM_DELROUTE, PLAIN, route.body(), f"route to {route.destination}")


def each(netlink: Netlink, family: int, table: int = MAIN) -> list[Route]:
    """Return the routes of a *family* in a *table*; for multipath routes only the first hop."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + u32(_RTA_TABLE, table)
    try:
        answers = netlink.dump(_RTM_GETROUTE, body, "routes")
    except FileNotFoundError:  # an empty table
        return []
    found = (read(answer) for answer in answers)
    return [route for route in found if route.table == table]


def read(body: bytes) -> Route:
    """Return the route in an answer or a notification."""
    family, prefix, _, _, table, _, _, _, flags = _ROUTE.unpack_from(body)
    parts = attributes(body, _ROUTE.size)
    nowhere = b"\0" * (4 if family == _AF_INET else 16)
    gateway, source = parts.get(_RTA_GATEWAY), parts.get(_RTA_PREFSRC)
    return Route(
        destination=f"{unpacked(parts.get(_RTA_DST, nowhere))}/{prefix}",
        gateway="" if gateway is None else unpacked(gateway),
        ifindex=number(parts.get(_RTA_OIF, b"")),
        source="" if source is None else unpacked(source),
        metric=number(parts.get(_RTA_PRIORITY, b"")),
        on_link=bool(flags & _RTNH_F_ONLINK),
        table=number(parts[_RTA_TABLE]) if _RTA_TABLE in parts else table,
    )
