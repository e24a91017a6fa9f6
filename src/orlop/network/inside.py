"""An interface within a container's namespace: its settings, addresses, routes; told to others."""

import socket
from collections.abc import Sequence
from typing import NamedTuple

from orlop.kernel.netlink import addresses, links, routes
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.links import Settings
from orlop.kernel.netlink.wire import Request, packed, split_prefix
from orlop.model.network import Endpoint
from orlop.network import sysctl
from orlop.network.namespace import Home


class Interface(NamedTuple):
    """An interface in a namespace that has been set up; *netlink* holds the namespace."""

    netlink: Netlink
    ifindex: int
    mac: str

    def announce(self) -> None:
        """Tell the neighbours which MAC address ours are at: gratuitous ARP, unsolicited NA.

        The kernel does so itself when the MAC address is set, even to what it is. A
        packet socket would cost 10 ms and more in its close.
        """
        self.netlink.ask(links.change(self.ifindex, Settings(mac=self.mac)))


class Plan:
    """What an endpoint's interface is to get; made before anything is touched.

    InvalidArgumentError, OSError or ValueError for what is no address, route or setting.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.ipv6 = any(":" in address for address in endpoint.addresses)
        self._settings = self._own_settings() + sysctl.parse(endpoint.sysctls, endpoint.interface)
        self._batch = self._requests(0)

    def apply(self, home: Home, namespace: int) -> Interface:
        """Set up the interface, which is in the *namespace* already, but not tell neighbours.

        Whoever calls closes the result's netlink.
        """
        with home.inside(namespace):
            index = socket.if_nametoindex(self.endpoint.interface)
            sysctl.apply(self._settings)
            netlink = Netlink()
        try:
            netlink.ask(*self._requests(index))
            mac = self.endpoint.mac or _mac(netlink, index)
        except BaseException:
            netlink.close()
            raise
        return Interface(netlink, index, mac)

    def _own_settings(self) -> list[tuple[str, str]]:
        name = self.endpoint.interface
        if not self.ipv6:
            has_ipv6 = sysctl.read("ipv6/conf/default/disable_ipv6") != ""
            return [(f"ipv6/conf/{name}/disable_ipv6", "1")] if has_ipv6 else []
        return [
            (f"ipv6/conf/{name}/disable_ipv6", "0"),
            (f"ipv6/conf/{name}/accept_ra", "0"),
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


def _mac(netlink: Netlink, index: int) -> str:
    found = links.find(netlink, index)
    return found.mac if found else ""


def _covered(gateway: str, interface_addresses: Sequence[str]) -> bool:
    """Return whether the *gateway* is on the link, by one of the addresses or by its own kind."""
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
