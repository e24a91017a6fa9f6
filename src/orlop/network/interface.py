"""What a network driver promises; what others may extend.

A driver makes a network of the host real (a bridge, a tunnel), and puts containers'
network namespaces on it. It decides no address and knows no container: all that is
chosen comes in a Network and an Endpoint. The contract is
tests/integration/network/contract.py; a driver of another package registers in the
entry-point group `orlop.networks`, as the built-in ones do.

Drivers are called from one thread, which is in the host's network namespace.
"""

from collections.abc import Collection
from typing import Protocol

from orlop.model.network import Endpoint, Network


class Driver(Protocol):
    """A driver. Every method undoes what it did when it fails, and may be repeated.

    InvalidArgumentError for what cannot be, AlreadyExistsError for an interface name
    or address that somebody else has, UnsupportedError where the kernel lacks a part.
    """

    name: str

    def check(self, network: Network) -> Network:
        """Return *network* with what the driver decides filled in (names, MTU); makes nothing."""

    def create(self, network: Network) -> None:
        """Make the network's devices; what is there already is put right, not made anew."""

    def remove(self, network: Network) -> None:
        """Remove the network's devices; what is gone is no error."""

    def attach(self, network: Network, endpoint: Endpoint, namespace: int) -> None:
        """Put the network namespace (a descriptor) on the network as *endpoint* says.

        Ends with the interface up, its addresses and routes there, and neighbours told.
        """

    def detach(self, network: Network, endpoint: Endpoint, namespace: int | None) -> None:
        """Take the endpoint away; *namespace* is None where the container has ended."""

    def limit(self, network: Network, endpoint: Endpoint) -> None:
        """Apply endpoint.bandwidth to an attached endpoint, or lift what was there."""

    def strays(self, networks: Collection[Network], endpoints: Collection[Endpoint]) -> list[str]:
        """Return names of the host's interfaces that this driver made and nobody speaks of."""
