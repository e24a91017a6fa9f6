"""Give the network interface of a jail to its machine.

    bridge ... veth | eth0 <-- everything that either receives leaves by the other --> tap0 | QEMU

The guest's card has the MAC address, the MTU, the addresses and the routes that eth0 has. So
whatever made the interface, and whatever filters, shapes or counts its traffic outside of the jail,
works as for every other container. tc(8), tc-mirred(8).
"""

import _socket
from typing import NamedTuple

from orlop.errors import UnsupportedError
from orlop.kernel import tuntap
from orlop.kernel.netlink import addresses, links, qdiscs, routes
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.links import Link, Settings
from orlop.kernel.tuntap import Layer

_TAP = "tap0"
_LOOPBACK = "lo"
_UNIVERSE = 0


class Card(NamedTuple):
    """What the guest gives its network card."""

    name: str
    mac: str
    mtu: int
    addresses: list[str]  # "10.0.0.2/24"
    routes: list[tuple[str, str, bool]]  # destination, gateway or "", whether that is on the link


def make_tap() -> int:
    """Make a tap device in this network namespace; return its descriptor, for QEMU."""
    return tuntap.make(_TAP, Layer.FRAMES, vnet_header=True)


def hand_over() -> Card | None:
    """Connect the tap to this namespace's interface; None if there is only a loopback.

    Needs CAP_NET_ADMIN. Raises UnsupportedError if there are several interfaces.
    """
    with Netlink() as netlink:
        found = [link for link in links.each(netlink) if _is_card(link)]
        if not found:
            return None
        if len(found) > 1:
            raise UnsupportedError("a virtual machine can be on one network, and no more")
        (card,) = found
        tap = links.find(netlink, _TAP)
        assert tap is not None
        netlink.ask(
            links.change(tap.ifindex, Settings(mtu=card.mtu, up=True)),
            *qdiscs.redirect(card.ifindex, tap.ifindex, card.name),
            *qdiscs.redirect(tap.ifindex, card.ifindex, _TAP),
        )
        return Card(
            card.name,
            card.mac,
            card.mtu,
            [
                one.address
                for one in addresses.each(netlink, card.ifindex)
                if one.scope == _UNIVERSE
            ],
            _routes(netlink, card),
        )


def _is_card(link: Link) -> bool:
    return link.up and link.name not in (_LOOPBACK, _TAP)


def _routes(netlink: Netlink, card: Link) -> list[tuple[str, str, bool]]:
    """Return the routes that do not follow from the addresses, those without a gateway first."""
    every = [
        route
        for family in (_socket.AF_INET, _socket.AF_INET6)
        for route in routes.each(netlink, family)
        if route.ifindex == card.ifindex and not route.destination.startswith("fe80::")
    ]
    told = [(route.destination, route.gateway, route.on_link) for route in every]
    return sorted(told, key=lambda route: bool(route[1]))
