"""The MTU of the host's route to the outside."""

import _socket as socket  # importing socket costs twice as much as all other imports here

from orlop.kernel.netlink import links, routes
from orlop.network.namespace import Home

_USUAL_MTU = 1500
_ANYWHERE = ("0.0.0.0/0", "::/0")


def path_mtu(home: Home) -> int:
    """Return the MTU of the default route's interface, 1500 without one."""
    found = [
        route
        for family in (socket.AF_INET, socket.AF_INET6)
        for route in routes.each(home.netlink, family)
        if route.destination in _ANYWHERE and route.ifindex
    ]
    sizes = []
    for route in found:
        link = links.find(home.netlink, route.ifindex)
        if link is not None:
            sizes.append(link.mtu)
    return min(sizes, default=_USUAL_MTU)
