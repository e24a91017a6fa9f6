"""Driver `tun`: layer 3; what a container sends is read from a descriptor, packet by packet."""

import errno
import os
from collections.abc import Collection

import msgspec

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.kernel import tuntap
from orlop.kernel.netlink import links
from orlop.kernel.netlink.connection import Netlink
from orlop.kernel.netlink.links import Settings
from orlop.kernel.tuntap import Layer
from orlop.model.network import Endpoint, Network
from orlop.network import options, own_interface
from orlop.network.inside import Plan
from orlop.network.namespace import Home
from orlop.network.refusal import refusals
from orlop.network.uplink import path_mtu

_KIND = "tun"


class Tun:
    """Each endpoint has a tun device of its own, and open_tun() its other end."""

    name = "tun"

    def __init__(self, home: Home, engine: str) -> None:
        del engine  # nothing of it is on the host
        self._home = home

    def check(self, network: Network) -> Network:
        mtu = options.mtu(network.options, network.mtu, ipv6=network.ipv6)
        return msgspec.structs.replace(network, mtu=mtu or path_mtu(self._home))

    def create(self, network: Network) -> None:
        """Make nothing: each endpoint is a link of its own."""

    def remove(self, network: Network) -> None:
        """Remove nothing."""

    def attach(self, network: Network, endpoint: Endpoint, namespace: int) -> None:
        own_interface.refuse_limit(endpoint, self.name)
        if endpoint.mac and not endpoint.addresses:
            raise InvalidArgumentError("a layer 3 network has no MAC addresses")
        settings = Settings(mtu=endpoint.mtu or network.mtu)
        with refusals(f"attach {endpoint.interface}", lacking="tun"):
            plan = Plan(endpoint)
            with own_interface.looking(self._home, namespace, endpoint, _KIND) as there:
                if not there:
                    self._make(endpoint, namespace)
                with self._home.open_netlink(namespace) as netlink:
                    netlink.ask(links.change(endpoint.interface, settings))
                plan.apply(self._home, namespace, again=there).netlink.close()

    def detach(self, network: Network, endpoint: Endpoint, namespace: int | None) -> None:
        del network
        own_interface.remove(self._home, namespace, endpoint, _KIND)

    def limit(self, network: Network, endpoint: Endpoint) -> None:
        del network
        own_interface.refuse_limit(endpoint, self.name)

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        """Return none: all that there is goes with the container's namespace."""
        del networks, endpoints
        return []

    def open_tun(self, endpoint: Endpoint, namespace: int) -> int:
        """Return the descriptor of an attached endpoint's other end: IP packets, one a read.

        One at a time; closed, the interface has no carrier until it is opened again.
        """
        with refusals(f"open {endpoint.interface}"), self._home.inside(namespace):
            try:
                fd = tuntap.attach(endpoint.interface, Layer.PACKETS)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                raise WrongStateError(f"{endpoint.interface} is open already") from error
            try:
                with Netlink() as there:
                    there.ask(links.look(endpoint.interface))  # it carries from here on
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _make(self, endpoint: Endpoint, namespace: int) -> None:
        with self._home.inside(namespace):
            os.close(tuntap.make(endpoint.interface, Layer.PACKETS, persistent=True))
