"""The firewall's input: networks with their bridges, and published ports."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from orlop.model.network import Network, PortMapping, Protocol
from orlop.network import options


class NetworkRules(NamedTuple):
    """A network for the firewall: the addresses behind one *bridge* of the host."""

    id: str
    bridge: str
    subnets: tuple[str, ...]
    internal: bool = False
    icc: bool = True  # its containers may reach each other
    masquerade: bool = True
    metadata: bool = False  # its containers may reach cloud metadata

    def has(self, version: int) -> bool:
        """Return whether the network has addresses of this IP *version*."""
        return any((":" in subnet) == (version == 6) for subnet in self.subnets)


class PublishedPort(NamedTuple):
    """A port of the host that leads to a container's; both addresses have one family.

    *host_ip* is "0.0.0.0" or "::" for every address of the host.
    """

    network: str  # the id of *address*'s network
    protocol: Protocol
    host_ip: str
    host_port: int
    address: str
    container_port: int


class Note(NamedTuple):
    """An exception for an *address* behind *bridge*.

    "readers" may reach cloud metadata. Those "apart" reach other addresses of their bridge,
    and are reached, only through published ports.
    """

    what: Literal["apart", "readers"]
    bridge: str
    address: str


class FirewallState(NamedTuple):
    """The whole content of the table."""

    networks: tuple[NetworkRules, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    notes: tuple[Note, ...] = ()


def network_rules(network: Network, bridge: str) -> NetworkRules:
    """Return the rules of *network*, whose containers are behind *bridge*.

    InvalidArgumentError for an option that is not a boolean.
    """
    return NetworkRules(
        id=network.id,
        bridge=bridge,
        subnets=tuple(subnet.subnet for subnet in network.subnets),
        internal=network.internal,
        icc=options.flag(network.options, options.ICC, default=True),
        masquerade=options.flag(network.options, options.MASQUERADE, default=True),
        metadata=options.flag(network.options, options.METADATA, default=False),
    )


def published(
    network: str, mappings: Iterable[PortMapping], addresses: Iterable[str]
) -> list[PublishedPort]:
    """Return the published ports for *mappings* to a container's *addresses* in *network* (an id).

    A mapping for every address leads to one address of each family that the
    container has. Addresses may have a prefix length.
    """
    bare = [address.partition("/")[0] for address in addresses]
    first = {
        version: next((one for one in bare if (":" in one) == (version == 6)), "")
        for version in (4, 6)
    }
    return [
        PublishedPort(
            network=network,
            protocol=mapping.protocol,
            host_ip=host_ip,
            host_port=mapping.host_port,
            address=first[version],
            container_port=mapping.container_port,
        )
        for mapping in mappings
        for version, host_ip in _host_addresses(mapping)
        if first[version]
    ]


def _host_addresses(mapping: PortMapping) -> Iterator[tuple[int, str]]:
    if mapping.host_ip:
        address = ipaddress.ip_address(mapping.host_ip)
        yield address.version, str(address)
    else:
        yield 4, "0.0.0.0"
        yield 6, "::"
