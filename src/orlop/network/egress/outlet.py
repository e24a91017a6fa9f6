"""An outlet: the host's end of a sandbox's interface, and its allowed addresses."""

from __future__ import annotations

from typing import NamedTuple

from orlop.model.egress import Destination
from orlop.network.ipam import link_local


class Outlet(NamedTuple):
    """A veth's end on a bridge of this host. Frames with other addresses are dropped."""

    container: str  # its id
    interface: str  # the end on the host
    bridge: str
    bridge_mac: str
    mac: str
    addresses: tuple[str, ...]  # without prefix lengths
    subnets: tuple[str, ...]  # of its network, which external names cannot lead to
    destinations: tuple[Destination, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that it may send from: its own, and with IPv6 its link-local one."""
        if any(":" in address for address in self.addresses):
            return tuple(dict.fromkeys((*self.addresses, link_local(self.mac))))
        return self.addresses
