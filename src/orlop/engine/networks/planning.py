"""Plan endpoints: from a container's options for its networks, with all choices made."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from msgspec.structs import replace

from orlop.engine.networks.directory import Directory
from orlop.engine.networks.leases import Leases
from orlop.errors import InvalidArgumentError
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network, Route
from orlop.network.ipam import mac_for
from orlop.network.options import BRIDGED, METADATA, NEIGHBOURS, SPOOFING, flag

_ENDPOINT = "com.docker.network.endpoint."
_PREFIX = "com.docker.network.container_iface_prefix"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_SYSCTL = re.compile(r"net\.[a-zA-Z0-9_]+\.[a-zA-Z0-9_]+\.IFNAME\.[a-zA-Z0-9_]+")


class Planner:
    """Allocates addresses; the caller gives endpoints back if a later step fails."""

    def __init__(self, directory: Directory, leases: Leases) -> None:
        self._directory = directory
        self._leases = leases

    def all(self, container: Container) -> tuple[Endpoint, ...]:
        """Plan an endpoint on each of the container's networks, or none at all."""
        endpoints: tuple[Endpoint, ...] = ()
        try:
            for name, wanted in container.options.networks.items():
                network = self._directory.named(name)
                endpoints = (*endpoints, self.one(network, container, wanted, endpoints))
        except BaseException:
            self.give_back(endpoints)
            raise
        return self.routed(container, endpoints)

    def one(
        self,
        network: Network,
        container: Container,
        wanted: EndpointOptions,
        others: Sequence[Endpoint],
    ) -> Endpoint:
        """Plan one more endpoint besides *others*, without routes."""
        options = container.options
        asked = wanted.mac or (options.mac_address if network.name == options.network else "")
        mac = _checked_mac(asked)
        interface = _interface(network, wanted, others)
        sysctls = _sysctls(wanted)
        for option in (METADATA, SPOOFING):
            flag(wanted.driver_options, option, default=False)
        _check_neighbours(network, wanted)
        limits = [_checked_link_local(text) for text in wanted.link_local]
        addresses = self._leases.take(network, wanted)
        return Endpoint(
            id=secrets.token_hex(32),
            network=network.id,
            container=container.id,
            interface=interface,
            host_interface=f"ve{secrets.token_hex(6)}",
            mac=mac or mac_for(addresses[0] if addresses else ""),
            addresses=(*addresses, *limits),
            mtu=network.mtu,
            aliases=wanted.aliases,
            bandwidth=options.bandwidth,
            sysctls=sysctls,
            driver_options=_driver_options(container, wanted),
        )

    def routed(self, container: Container, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Return them with the default routes, one for each family.

        They belong to the network with the highest priority; among equals to the first by name.
        """
        networks = {one.network: self._directory.get(one.network) for one in endpoints}
        known = [network for network in networks.values() if network and not network.internal]
        known.sort(key=lambda network: (-_priority(container, network), network.name))
        default: dict[int, tuple[str, str]] = {}  # by family: network, gateway
        for network in known:
            for family, gateway in _gateways(network):
                default.setdefault(family, (network.id, gateway))
        return tuple(
            replace(one, routes=tuple(_routes(one.network, default.items()))) for one in endpoints
        )

    def give_back(self, endpoints: Iterable[Endpoint]) -> None:
        """Release the addresses of endpoints that are gone, or were never made."""
        for endpoint in endpoints:
            self._leases.release_endpoint(endpoint)


def standing_in(container: Container, network: Network) -> Endpoint:
    """Return a placeholder for the endpoint on "host" or "none", which have none."""
    text = f"{network.id}{container.id}{container.started_ns}"
    return Endpoint(
        id=hashlib.sha256(text.encode()).hexdigest(),
        network=network.id,
        container=container.id,
        interface="",
    )


def _driver_options(container: Container, wanted: EndpointOptions) -> dict[str, str]:
    """Return an endpoint's options; checking a privileged container's packets is pointless."""
    may_spoof = {SPOOFING: "true"} if container.options.privileged else {}
    return {**may_spoof, **wanted.driver_options}


def _check_neighbours(network: Network, wanted: EndpointOptions) -> None:
    has_some = flag(wanted.driver_options, NEIGHBOURS, default=True)
    if not has_some and network.driver not in BRIDGED:
        raise InvalidArgumentError(
            f"option {NEIGHBOURS}=false does not go with network {network.name}, whose driver is"
            f" {network.driver}",
            hint="with a network of driver bridge",
        )


def _priority(container: Container, network: Network) -> int:
    wanted = container.options.networks.get(network.name)
    return wanted.gateway_priority if wanted else 0


def _gateways(network: Network) -> Iterable[tuple[int, str]]:
    for subnet in network.subnets:
        if subnet.gateway:
            yield ip_address(subnet.gateway).version, subnet.gateway


def _routes(network_id: str, default: Iterable[tuple[int, tuple[str, str]]]) -> Iterable[Route]:
    for family, (owner, gateway) in default:
        if owner == network_id:
            yield Route(destination="0.0.0.0/0" if family == 4 else "::/0", gateway=gateway)


def _interface(network: Network, wanted: EndpointOptions, others: Sequence[Endpoint]) -> str:
    taken = {other.interface for other in others}
    if name := wanted.driver_options.get(f"{_ENDPOINT}ifname", ""):
        if not _INTERFACE.fullmatch(name) or name in (".", "..", "lo", "all", "default"):
            raise InvalidArgumentError(f"invalid interface name {name[:50]!r}")
        if name in taken:
            raise InvalidArgumentError(f"interface name {name} is there twice")
        return name
    prefix = network.options.get(_PREFIX, "") or "eth"
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    name = f"{prefix}{number}"
    if not _INTERFACE.fullmatch(name):
        raise InvalidArgumentError(
            f"invalid interface name {name[:50]!r} of network {network.name}"
        )
    return name


def _sysctls(wanted: EndpointOptions) -> dict[str, str]:
    """Parse "net.ipv4.conf.IFNAME.log_martians=1,…"."""
    found = {}
    for text in wanted.driver_options.get(f"{_ENDPOINT}sysctls", "").split(","):
        key, equals, value = text.partition("=")
        if not text:
            continue
        if not equals or not _SYSCTL.fullmatch(key):
            raise InvalidArgumentError(
                f"invalid sysctl {text[:100]!r} of an endpoint",
                hint="such as net.ipv4.conf.IFNAME.log_martians=1",
            )
        found[key] = value
    return found


def _checked_mac(text: str) -> str:
    if not text:
        return ""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidArgumentError(f"invalid MAC address: {text[:50]}")
    return mac


def _checked_link_local(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidArgumentError(f"invalid link-local IP address: {text[:50]}") from None
    if not address.is_link_local:
        raise InvalidArgumentError(f"invalid link-local IP address: {address}")
    return f"{address}/{16 if address.version == 4 else 64}"
