"""Driver `tun`: layer 3; a container's packets are read from a descriptor."""

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
    """Each endpoint has its own tun device; open_tun() opens the other end."""

    name = "tun"

    def __init__(self, home: Home, engine: str) -> None:
        del engine  # it has nothing on the host
        self._home = home

    def check(self, network: Network) -> Network:
        mtu = options.mtu(network.options, network.mtu, ipv6=network.ipv6)
        return msgspec.structs.replace(network, mtu=mtu or path_mtu(self._home))

    def create(self, network: Network) -> None:
        """Do nothing: each endpoint is a link of its own."""

    def remove(self, network: Network) -> None:
        """Do nothing."""

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
        """Return none: everything disappears with the container's namespace."""
        del networks, endpoints
        return []

    def open_tun(self, endpoint: Endpoint, namespace: int) -> int:
        """Return the descriptor of an attached endpoint's other end: each read is an IP packet.

        One at a time; after it is closed, the interface has no carrier until the next one.
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
                    there.ask(links.look(endpoint.interface))  # the carrier is on from here
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _make(self, endpoint: Endpoint, namespace: int) -> None:
        with self._home.inside(namespace):
            os.close(tuntap.make(endpoint.interface, Layer.PACKETS, persistent=True))
