"""Network interfaces. rtnetlink(7), <linux/if_link.h>."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from orlop.kernel.netlink.connection import Netlink, get
from orlop.kernel.netlink.wire import (
    CREATE,
    PLAIN,
    Request,
    attribute,
    attributes,
    hardware,
    hardware_text,
    nested,
    number,
    string,
    text,
    u8,
    u32,
)
from orlop.model.light import NamedTuple

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK = 1, 3, 4, 5
_IFLA_MASTER, _IFLA_TXQLEN, _IFLA_LINKINFO = 10, 13, 18
_IFLA_IFALIAS, _IFLA_STATS64, _IFLA_AF_SPEC = 20, 23, 26
_IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 28, 29, 37
_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_INET_CONF, _IPV4_DEVCONF_ARP_NOTIFY = 1, 22
_RTEXT_FILTER_SKIP_STATS = 8
_IFLA_BRPORT_MODE, _IFLA_BRPORT_LEARNING, _IFLA_BRPORT_UNICAST_FLOOD = 4, 8, 9
_IFLA_BRPORT_NEIGH_SUPPRESS, _IFLA_BRPORT_ISOLATED = 32, 33
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_AF_UNSPEC, _AF_INET = 0, 2

_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, changed
_STATS = struct.Struct("=8Q")  # the first of rtnl_link_stats64
_NOTHING = _LINK.pack(_AF_UNSPEC, 0, 0, 0, 0)
_NO_STATS = u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


class Link(NamedTuple):
    """An interface, as the kernel has it."""

    ifindex: int
    name: str
    kind: str  # "veth", "bridge"; "" for hardware
    alias: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    master: int  # the bridge's index, or 0
    link: int  # the index of the interface below, or of a veth's other end
    link_namespace: int | None  # a number for that interface's namespace, if it is another one
    data: bytes  # the attributes of its kind


class Counters(NamedTuple):
    """The traffic of an interface since it was made."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


class Settings(NamedTuple):
    """The settings to apply; None leaves a setting alone."""

    mac: str = ""
    mtu: int = 0
    master: int | None = None  # 0 for none
    up: bool | None = None
    alias: str | None = None
    name: str = ""  # the new name
    namespace: int = -1  # a descriptor: the namespace to make it in, or to move it to
    link: int = 0
    queue_length: int | None = None
    queues: int = 0  # 0: one for each processor, each of which takes time to make
    announces: bool = False  # announce its IPv4 addresses to neighbours when it comes up

    def body(self, index: int) -> bytes:
        """Return the message for the interface *index*."""
        flags = _IFF_UP if self.up else 0
        changed = 0 if self.up is None else _IFF_UP
        parts = _LINK.pack(_AF_UNSPEC, 0, index, flags, changed)
        if self.name:
            parts += string(_IFLA_IFNAME, self.name)
        if self.mac:
            parts += attribute(_IFLA_ADDRESS, hardware(self.mac))
        if self.alias is not None:
            parts += string(_IFLA_IFALIAS, self.alias)
        if self.announces:
            parts += _ANNOUNCES
        numbers = (
            (_IFLA_MTU, self.mtu or None),
            (_IFLA_MASTER, self.master),
            (_IFLA_NET_NS_FD, self.namespace if self.namespace >= 0 else None),
            (_IFLA_LINK, self.link or None),
            (_IFLA_TXQLEN, self.queue_length),
            (_IFLA_NUM_TX_QUEUES, self.queues or None),
            (_IFLA_NUM_RX_QUEUES, self.queues or None),
        )
        return parts + b"".join([u32(kind, n) for kind, n in numbers if n is not None])


_ANNOUNCES = nested(
    _IFLA_AF_SPEC, nested(_AF_INET, nested(_IFLA_INET_CONF, u32(_IPV4_DEVCONF_ARP_NOTIFY, 1)))
)


def make(kind: str, data: bytes, settings: Settings, *, index: int = 0) -> Request:
    """Make an interface of a *kind*, with *data* from kinds.py.

    It cannot set an alias: do that with change() in the same batch.
    """
    info = string(_IFLA_INFO_KIND, kind)
    if data:
        info += nested(_IFLA_INFO_DATA, data)
    body = settings.body(index) + nested(_IFLA_LINKINFO, info)
    return Request(_RTM_NEWLINK, CREATE, body, settings.name)


def change(of: int | str, settings: Settings) -> Request:
    """Change the interface with that index or name. To rename one, give its index."""
    if isinstance(of, int):
        return Request(_RTM_NEWLINK, PLAIN, settings.body(of), settings.name or f"interface {of}")
    return Request(_RTM_NEWLINK, PLAIN, settings.body(0) + string(_IFLA_IFNAME, of), of)


def change_kind(of: int, kind: str, data: bytes, what: str) -> Request:
    """Change the parameters of an interface's *kind*."""
    info = string(_IFLA_INFO_KIND, kind) + nested(_IFLA_INFO_DATA, data)
    body = _LINK.pack(_AF_UNSPEC, 0, of, 0, 0) + nested(_IFLA_LINKINFO, info)
    return Request(_RTM_NEWLINK, PLAIN, body, what)


def remove(of: int | str) -> Request:
    """Remove an interface; a veth pair in 25 ms, with its other end."""
    return Request(_RTM_DELLINK, PLAIN, *_named(of))


class Port(NamedTuple):
    """How a bridge treats one of its ports; None leaves a setting alone."""

    isolated: bool | None = None  # from other isolated ports
    hairpin: bool | None = None  # frames may leave by the port they came in
    learning: bool | None = None
    flooding: bool | None = None  # of unicast frames to unknown addresses
    neighbours_suppressed: bool | None = None  # the bridge answers for neighbours it knows


def change_port(of: int | str, port: Port) -> Request:
    """Change how the bridge treats its port *of*."""
    kinds = (
        _IFLA_BRPORT_ISOLATED,
        _IFLA_BRPORT_MODE,
        _IFLA_BRPORT_LEARNING,
        _IFLA_BRPORT_UNICAST_FLOOD,
        _IFLA_BRPORT_NEIGH_SUPPRESS,
    )
    pairs = zip(kinds, port, strict=True)
    parts = [u8(kind, int(value)) for kind, value in pairs if value is not None]
    info = string(_IFLA_INFO_SLAVE_KIND, "bridge") + nested(_IFLA_INFO_SLAVE_DATA, *parts)
    body, what = _named(of)
    return Request(_RTM_NEWLINK, PLAIN, body + nested(_IFLA_LINKINFO, info), what)


def look(of: int | str) -> Request:
    """Request an interface. The kernel first completes pending changes of its carrier."""
    body, what = _named(of)
    return get(_RTM_GETLINK, body + _NO_STATS, what)


def find(netlink: Netlink, of: int | str) -> Link | None:
    """Return the interface of that index or name, or None."""
    body = netlink.find(look(of))
    return None if body is None else read(body)


def each(netlink: Netlink, kind: str = "") -> list[Link]:
    """Return the namespace's interfaces, or those of a *kind*."""
    body = _NOTHING + _NO_STATS
    if kind:
        body += nested(_IFLA_LINKINFO, string(_IFLA_INFO_KIND, kind))
    return [read(answer) for answer in netlink.dump(_RTM_GETLINK, body, "interfaces")]


def read(body: bytes) -> Link:
    """Return the interface in an answer or a notification."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    parts = attributes(body, _LINK.size)
    info = attributes(parts.get(_IFLA_LINKINFO, b""))
    elsewhere = parts.get(_IFLA_LINK_NETNSID)
    return Link(
        ifindex=index,
        name=text(parts.get(_IFLA_IFNAME, b"")),
        kind=text(info.get(_IFLA_INFO_KIND, b"")),
        alias=text(parts.get(_IFLA_IFALIAS, b"")),
        mac=hardware_text(parts.get(_IFLA_ADDRESS, b"")),
        mtu=number(parts.get(_IFLA_MTU, b"")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        master=number(parts.get(_IFLA_MASTER, b"")),
        link=number(parts.get(_IFLA_LINK, b"")),
        link_namespace=None if elsewhere is None else number(elsewhere),
        data=info.get(_IFLA_INFO_DATA, b""),
    )


def each_counted(netlink: Netlink) -> Iterator[tuple[str, Counters]]:
    """Return the namespace's interfaces by name with their traffic."""
    for body in netlink.dump(_RTM_GETLINK, _NOTHING, "interfaces"):
        yield _counted(body)


def counters(netlink: Netlink, of: int | str) -> Counters | None:
    """Return the traffic of one interface, or None if it is gone."""
    body = netlink.find(get(_RTM_GETLINK, *_named(of)))
    return None if body is None else _counted(body)[1]


def _counted(body: bytes) -> tuple[str, Counters]:
    parts = attributes(body, _LINK.size)
    stats = parts.get(_IFLA_STATS64, b"").ljust(_STATS.size, b"\0")
    return text(parts.get(_IFLA_IFNAME, b"")), Counters(*_STATS.unpack_from(stats))


def _named(of: int | str) -> tuple[bytes, str]:
    if isinstance(of, int):
        return _LINK.pack(_AF_UNSPEC, 0, of, 0, 0), f"interface {of}"
    return _NOTHING + string(_IFLA_IFNAME, of), of
