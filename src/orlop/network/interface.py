"""The interface of network drivers, which other packages may implement.

A driver makes a network on the host (a bridge, a tunnel), and connects containers' network
namespaces to it. It chooses no address and knows no container: all choices are in a Network
and an Endpoint. The contract is tests/integration/network/contract.py. Drivers in other
packages register, like the built-in ones, in the entry-point group `orlop.networks`.

Drivers are called from one thread, which is in the host's network namespace.
"""

from collections.abc import Collection
from typing import Protocol

from orlop.model.network import Endpoint, Network


class Driver(Protocol):
    """A driver. Every method undoes its work when it fails, and may be repeated.

    InvalidArgumentError for invalid input, AlreadyExistsError for an interface name or
    address that is in use, UnsupportedError if the kernel lacks a feature.
    """

    name: str

    def check(self, network: Network) -> Network:
        """Return *network* with the driver's choices filled in (names, MTU); makes nothing."""

    def create(self, network: Network) -> None:
        """Make the network's devices; repair existing ones, without making them again."""

    def remove(self, network: Network) -> None:
        """Remove the network's devices; missing ones are no error."""

    def attach(self, network: Network, endpoint: Endpoint, namespace: int) -> None:
        """Connect the network namespace (a descriptor) to the network as *endpoint*.

        Afterwards the interface is up, with its addresses and routes, and is announced.
        """

    def detach(self, network: Network, endpoint: Endpoint, namespace: int | None) -> None:
        """Disconnect the endpoint; *namespace* is None if the container has ended."""

    def limit(self, network: Network, endpoint: Endpoint) -> None:
        """Apply endpoint.bandwidth to an attached endpoint, or remove an earlier limit."""

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        """Return the host's interfaces made by this driver that belong to none of these."""
