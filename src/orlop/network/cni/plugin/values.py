"""A network and an endpoint for our drivers, as plain tuples.

The model's own are msgspec's, whose import takes longer than everything else in a plugin.
Drivers only read attributes, and these have the same names.
"""

from __future__ import annotations

from orlop.model.light import NamedTuple, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.model import network as model


_NONE: dict[str, str] = {}


class Subnet(NamedTuple):
    """As model.network.Subnet."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    reserved: dict[str, str] = _NONE


class Route(NamedTuple):
    """As model.network.Route."""

    destination: str
    gateway: str = ""


class Bandwidth(NamedTuple):
    """As model.network.Bandwidth."""

    ingress_bps: int = 0
    ingress_burst_bits: int = 0
    egress_bps: int = 0
    egress_burst_bits: int = 0


class Network(NamedTuple):
    """As model.network.Network."""

    id: str
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    mtu: int = 0
    options: dict[str, str] = _NONE
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    labels: dict[str, str] = _NONE
    created_ns: int = 0

    def as_model(self) -> model.Network:
        """Return it with the type that drivers take."""
        return cast("model.Network", self)


class Endpoint(NamedTuple):
    """As model.network.Endpoint."""

    id: str
    network: str
    container: str
    interface: str
    host_interface: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    mtu: int = 0
    aliases: tuple[str, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    sysctls: dict[str, str] = _NONE
    driver_options: dict[str, str] = _NONE

    def as_model(self) -> model.Endpoint:
        """Return it with the type that drivers take."""
        return cast("model.Endpoint", self)


def digest(*words: str) -> str:
    """Return 64 hex digits that identify *words*."""
    try:
        from _blake2 import blake2b  # hashlib has it too, but loads all of OpenSSL
    except ImportError:
        from hashlib import blake2b
    return blake2b("\0".join(words).encode(), digest_size=32).hexdigest()
