"""A container's end of an interface: its settings, addresses, routes, and announcement."""

from __future__ import annotations

import _socket as socket  # importing socket costs twice as much as all other imports here
from collections.abc import Sequence
from contextlib import suppress

from orlop.kernel.netlink import addresses, links, routes
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.links import Settings
from orlop.kernel.netlink.wire import Request, packed, split_prefix
from orlop.model.light import NamedTuple
from orlop.network import sysctl
from orlop.network.namespace import Home

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint

_SECOND = 2  # the index of the first interface after lo, the usual case


class Interface(NamedTuple):
    """A complete interface in a namespace; *netlink* keeps the namespace alive."""

    netlink: Netlink
    ifindex: int
    mac: str

    def announce(self) -> None:
        """Tell the neighbours our MAC address: gratuitous ARP, unsolicited NA.

        Then release the namespace. The kernel announces it when the MAC address is set, even
        to the same value. A packet socket would take 10 ms and more to close.
        """
        with self.netlink, suppress(OSError):  # somebody may have removed it
            self.netlink.ask(links.change(self.ifindex, Settings(mac=self.mac)))


class Plan:
    """The settings of an endpoint's interface; computed before anything is changed.

    InvalidArgumentError, OSError or ValueError for an invalid address, route or setting.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.ipv6 = any(":" in address for address in endpoint.addresses)
        self._settings = self._own_settings() + sysctl.parse(endpoint.sysctls, endpoint.interface)
        self._guess = self._requests(_SECOND)

    def apply(self, home: Home, namespace: int, *, again: bool = False) -> Interface:
        """Set up the interface, which is in the *namespace* already, without announcing it.

        *again*: it was set up before, and may have a default route that is wrong now. The
        caller closes the result's netlink, or announces.
        """
        with home.inside(namespace):
            index = socket.if_nametoindex(self.endpoint.interface)
            if not self.ipv6:  # a kernel without IPv6 has it disabled anyway
                with suppress(FileNotFoundError):
                    home.sysctl.write(f"ipv6/conf/{self.endpoint.interface}/disable_ipv6", "1")
            home.sysctl.apply(self._settings)
            netlink = Netlink()
        try:
            netlink.ask(*(self._guess if index == _SECOND else self._requests(index)))
            if again:
                self._drop_default_routes(netlink, index)
            mac = self.endpoint.mac or _mac(netlink, index)
        except BaseException:
            netlink.close()
            raise
        return Interface(netlink, index, mac)

    def _own_settings(self) -> list[tuple[str, str]]:
        name = self.endpoint.interface
        if not self.ipv6:
            return []
        return [
            (f"ipv6/conf/{name}/disable_ipv6", "0"),
            (f"ipv6/conf/{name}/accept_ra", "0"),
            (f"ipv6/conf/{name}/accept_dad", "0"),  # the MAC makes its link-local address unique
            (f"ipv6/conf/{name}/ndisc_notify", "1"),
        ]

    def _requests(self, index: int) -> list[Request]:
        endpoint = self.endpoint
        up = links.change(index, Settings(up=True, announces=True))
        batch = [up._replace(what=endpoint.interface)]
        batch += [addresses.add(index, address) for address in endpoint.addresses]
        for route in sorted(endpoint.routes, key=lambda route: bool(route.gateway)):
            gateway = route.gateway
            far = bool(gateway) and not _covered(gateway, endpoint.addresses)
            wanted = routes.Route(route.destination, gateway, index, on_link=far)
            batch.append(routes.add(wanted))
        return batch

    def _drop_default_routes(self, netlink: Netlink, index: int) -> None:
        wanted = {route.destination for route in self.endpoint.routes}
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in routes.each(netlink, family):
                bare, prefix = split_prefix(route.destination)
                unwanted = prefix == 0 and f"{bare}/0" not in wanted
                if unwanted and route.ifindex == index:
                    netlink.ask(routes.remove(route))


def _mac(netlink: Netlink, index: int) -> str:
    found = links.find(netlink, index)
    return found.mac if found else ""


def _covered(gateway: str, interface_addresses: Sequence[str]) -> bool:
    """Whether the *gateway* is on the link, by one of the addresses or because it is link-local."""
    wanted = packed(gateway)
    if len(wanted) == 16 and wanted[0] == 0xFE and wanted[1] & 0xC0 == 0x80:
        return True
    number = int.from_bytes(wanted, "big")
    for address in interface_addresses:
        bare, prefix = split_prefix(address)
        own = packed(bare)
        rest = len(own) * 8 - prefix
        if len(own) == len(wanted) and int.from_bytes(own, "big") >> rest == number >> rest:
            return True
    return False
