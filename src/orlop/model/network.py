"""Networks: a network, a container's options for it, and the resulting endpoint.

Values here are stored as JSON and read back, so a field added later needs a default.
Addresses are text as users write them ("172.17.0.2", "fd00::2"); interface addresses have a
prefix length after a slash.
"""

from typing import Literal

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value stored as JSON; change it by making a new one (msgspec.structs.replace)."""


class Subnet(Value, frozen=True, kw_only=True):
    """A range of addresses of a network: IPv4 or IPv6; a network may have several."""

    subnet: str  # "172.18.0.0/16", no host bits
    gateway: str = ""  # the bridge's own address there; "" on networks without one
    ip_range: str = ""  # the source of dynamic addresses; "" for the whole subnet
    reserved: dict[str, str] = {}  # name: address, never allocated (Docker's aux-address)


class Network(Value, frozen=True, kw_only=True):
    """A network as it was created; *options* are the driver's, in Docker's terms."""

    id: str  # 64 hex digits
    name: str
    driver: str = "bridge"
    created_ns: int = 0
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    subnets: tuple[Subnet, ...] = ()
    mtu: int = 0  # 0: the driver chooses
    ipam_options: dict[str, str] | None = None  # as requested: {} and None look different
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class EndpointOptions(Value, frozen=True, kw_only=True):
    """A container's options for a network; empty fields are chosen by the engine."""

    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    link_local: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_options: dict[str, str] = {}
    gateway_priority: int = 0


class Bandwidth(Value, frozen=True, kw_only=True):
    """Limits from the container's point of view, in bits per second; 0 for none."""

    ingress_bps: int = 0
    ingress_burst_bits: int = 0  # 0: chosen from the rate
    egress_bps: int = 0
    egress_burst_bits: int = 0


class Route(Value, frozen=True, kw_only=True):
    destination: str  # "0.0.0.0/0", "10.1.0.0/16"
    gateway: str = ""  # "": on the link


class Endpoint(Value, frozen=True, kw_only=True):
    """A container's endpoint in a network, with all choices made; a driver creates it."""

    id: str  # 64 hex digits
    network: str  # the network's id
    container: str  # the container's id
    interface: str  # its name inside: "eth0"
    host_interface: str = ""  # the name of a veth's other end, or ""
    mac: str = ""
    addresses: tuple[str, ...] = ()  # interface addresses: "172.17.0.2/16", "fd00::2/64"
    routes: tuple[Route, ...] = ()  # including default routes, if this endpoint has them
    mtu: int = 0  # 0: the network's
    aliases: tuple[str, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    sysctls: dict[str, str] = {}  # net.* for this interface, IFNAME as a placeholder
    driver_options: dict[str, str] = {}


Protocol = Literal["tcp", "udp", "sctp"]


class PortMapping(Value, frozen=True, kw_only=True):
    """One published port, with the host's port chosen."""

    protocol: Protocol
    container_port: int
    host_port: int
    host_ip: str = ""  # "": every address, IPv4 and IPv6
