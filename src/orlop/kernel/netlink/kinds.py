"""The parameters of each kind of interface, for links.make(). <linux/if_link.h>."""

from __future__ import annotations

from orlop.kernel.netlink.links import Settings
from orlop.kernel.netlink.wire import attribute, nested, packed, u8, u16_network, u32
from orlop.model import light_enum as enum
from orlop.model.light import NamedTuple

_VETH_INFO_PEER = 1
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_AGEING_TIME, _IFLA_BR_STP_STATE = 1, 4, 5
_IFLA_BR_MCAST_SNOOPING = 23
_IFLA_MACVLAN_MODE = 1
_IFLA_VXLAN_ID, _IFLA_VXLAN_GROUP, _IFLA_VXLAN_LINK, _IFLA_VXLAN_LOCAL = 1, 2, 3, 4
_IFLA_VXLAN_TTL, _IFLA_VXLAN_LEARNING, _IFLA_VXLAN_PROXY, _IFLA_VXLAN_PORT = 5, 7, 11, 15
_IFLA_VXLAN_GROUP6, _IFLA_VXLAN_LOCAL6 = 16, 17
_TICKS_A_SECOND = 100  # USER_HZ


class MacvlanMode(enum.IntEnum):
    """Which endpoints see each other. <linux/if_link.h> MACVLAN_MODE_*."""

    PRIVATE = 1
    VEPA = 2
    BRIDGE = 4
    PASSTHRU = 8


def veth(peer: Settings) -> bytes:
    """Return the other end of a pair. It cannot be brought up here (`up`): ENOTCONN."""
    return nested(_VETH_INFO_PEER, peer.body(0))


def bridge(*, ageing_s: int | None = None, snooping: bool | None = None) -> bytes:
    """Return a bridge without spanning tree, which forwards at once."""
    data = u32(_IFLA_BR_STP_STATE, 0) + u32(_IFLA_BR_FORWARD_DELAY, 0)
    if ageing_s is not None:
        data += u32(_IFLA_BR_AGEING_TIME, ageing_s * _TICKS_A_SECOND)
    if snooping is not None:
        data += u8(_IFLA_BR_MCAST_SNOOPING, int(snooping))
    return data


def macvlan(mode: MacvlanMode) -> bytes:
    return u32(_IFLA_MACVLAN_MODE, mode)


class Vxlan(NamedTuple):
    """A tunnel end."""

    vni: int
    port: int = 4789
    local: str = ""  # our address, "" for the one of the route
    group: str = ""  # a multicast group, or the only peer; "" if forwarding entries decide
    link: int = 0  # the interface for multicast
    learning: bool = False
    proxy: bool = False  # answers for neighbours from its table
    ttl: int = 0

    def data(self) -> bytes:
        """Return the parameters for links.make("vxlan", …)."""
        parts = u32(_IFLA_VXLAN_ID, self.vni) + u16_network(_IFLA_VXLAN_PORT, self.port)
        parts += u8(_IFLA_VXLAN_LEARNING, int(self.learning))
        parts += u8(_IFLA_VXLAN_PROXY, int(self.proxy)) + u8(_IFLA_VXLAN_TTL, self.ttl)
        for address, four, six in (
            (self.local, _IFLA_VXLAN_LOCAL, _IFLA_VXLAN_LOCAL6),
            (self.group, _IFLA_VXLAN_GROUP, _IFLA_VXLAN_GROUP6),
        ):
            if address:
                parts += attribute(six if ":" in address else four, packed(address))
        if self.link:
            parts += u32(_IFLA_VXLAN_LINK, self.link)
        return parts
