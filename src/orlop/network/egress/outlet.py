"""An outlet: where what a sandbox sends reaches this host, and what may be in it."""

from __future__ import annotations

from typing import NamedTuple

from orlop.model.egress import Destination
from orlop.network.ipam import link_local


class Outlet(NamedTuple):
    """A veth's end on a bridge of this host. All that is not as said here is no frame of it."""

    container: str  # its id
    interface: str  # the end on the host
    bridge: str
    bridge_mac: str
    mac: str
    addresses: tuple[str, ...]  # without prefix lengths
    subnets: tuple[str, ...]  # of its network, which no name from outside leads into
    destinations: tuple[Destination, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that it may send from: its own, and that of its link where it has IPv6."""
        if any(":" in address for address in self.addresses):
            return tuple(dict.fromkeys((*self.addresses, link_local(self.mac))))
        return self.addresses
