"""The configuration of `orlop-cni`, and the network and endpoint that follow from it.

The keys are those of Debian's bridge and macvlan plugins, so that orlop-cni can replace them:

    driver            "bridge" (default), "macvlan"
    bridge            the bridge's name, "cni0"
    isGateway, isDefaultGateway, ipMasq, hairpinMode, mtu
    master, mode      for macvlan
"""

from __future__ import annotations

from orlop.errors import InvalidArgumentError
from orlop.model.light import NamedTuple
from orlop.network import options
from orlop.network.cni import failure, result
from orlop.network.cni.failure import RefusedError
from orlop.network.cni.plugin.leases import number
from orlop.network.cni.plugin.values import Bandwidth, Endpoint, Network, Route, Subnet, digest
from orlop.network.cni.result import Dns, Result
from orlop.network.uplink import path_mtu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orlop.network.cni.plugin.request import Request
    from orlop.network.namespace import Home

_DRIVERS = ("bridge", "macvlan")
_FLAGS = ("isGateway", "isDefaultGateway", "ipMasq", "hairpinMode")
#: Keys of Debian's plugins that are not supported.
_UNSUPPORTED = (
    "forceAddress", "promiscMode", "vlan", "vlanTrunk", "macspoofchk", "disableContainerInterface",
    "portIsolation", "linkInContainer", "bcqueuelen",
)  # fmt: skip
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


class Settings(NamedTuple):
    """A configuration, checked."""

    driver: str
    bridge: str
    gateway: bool
    default_gateway: bool
    masquerade: bool
    hairpin: bool
    mtu: int
    master: str
    mode: str
    mac: str
    bandwidth: Bandwidth
    own_dns: Dns

    def plan(self, home: Home, request: Request, given: Result) -> tuple[Network, Endpoint]:
        """Return the network and endpoint for the *given* addresses."""
        subnets = [_subnet(ip.address, self._gateway(ip)) for ip in given.ips]
        if self.driver == "bridge":
            chosen = {options.BRIDGE_NAME: self.bridge}
        else:
            chosen = {options.PARENT: self.master, options.MACVLAN_MODE: self.mode}
        network = Network(
            digest(request.network),
            request.network,
            self.driver,
            tuple(subnets),
            self.mtu or path_mtu(home),
            chosen,
            ipv6=any(":" in subnet.subnet for subnet in subnets),
        )
        return network, self.endpoint(request, given)

    def endpoint(self, request: Request, given: Result) -> Endpoint:
        """Return the container's endpoint in the network."""
        return Endpoint(
            digest(request.network, request.container, request.interface),
            digest(request.network),
            request.container,
            request.interface,
            mac=self.mac,
            addresses=tuple(ip.address for ip in given.ips),
            routes=self._led_routes(given),
            bandwidth=self.bandwidth,
        )

    def routes(self, given: Result) -> tuple[result.Route, ...]:
        """Return the routes of an attachment, for its result."""
        have = {route.dst for route in given.routes}
        default = [
            result.Route(_EVERYWHERE[version], gateway)
            for version, gateway in self._gateways(given).items()
            if self.default_gateway and _EVERYWHERE[version] not in have
        ]
        return (*given.routes, *default)

    def _led_routes(self, given: Result) -> tuple[Route, ...]:
        """Return each route with its next hop: the gateway by default."""
        gateways = self._gateways(given)
        return tuple(
            Route(route.dst, route.gw or gateways.get(result.family(route.dst), ""))
            for route in self.routes(given)
        )

    def _gateways(self, given: Result) -> dict[int, str]:
        """Return the first gateway of each IP version."""
        found: dict[int, str] = {}
        for ip in given.ips:
            if gateway := ip.gateway or self._gateway(ip):
                found.setdefault(result.family(ip.address), gateway)
        return found

    def dns(self, given: Result) -> Dns:
        """Return the configuration's name servers, or else those from the address plugin."""
        return self.own_dns if self.own_dns != Dns() else given.dns

    def _gateway(self, ip: result.Address) -> str:
        """Return the bridge's own address in the subnet of *ip*, "" if it has none."""
        if not (self.gateway or self.default_gateway):
            return ""
        return ip.gateway or _first(ip.address)


def settings(request: Request, *, lenient: bool = False) -> Settings:
    """Return a request's settings; *lenient* for requests about existing attachments."""
    given = request.configuration
    if not lenient:
        for key in _UNSUPPORTED:
            if given.get(key):
                text = f"{key} is {given[key]!r}, and not supported"
                raise RefusedError(failure.UNSUPPORTED_FIELD, text)
    driver = _text(given, "driver", "bridge")
    if driver not in _DRIVERS:
        raise InvalidArgumentError(f"there is no driver {driver!r}", hint=", ".join(_DRIVERS))
    gateway, default_gateway, masquerade, hairpin = (_flag(given, key) for key in _FLAGS)
    if driver == "macvlan" and not _text(given, "master"):
        raise InvalidArgumentError("macvlan has no master")
    told = request.capabilities
    return Settings(
        driver,
        options.interface_name(_text(given, "bridge", "cni0")),
        gateway,
        default_gateway,
        masquerade,
        hairpin,
        options.mtu({}, _number(given, "mtu"), ipv6=False),
        _text(given, "master"),
        _text(given, "mode", "bridge"),
        _text(told, "mac") or request.arguments.get("MAC", ""),
        _bandwidth(told.get("bandwidth") or {}),
        result.dns(given.get("dns")),
    )


def _text(given: Mapping[str, Any], key: str, default: str = "") -> str:
    value = given.get(key) or default
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{key} is not text")
    return value


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{key} is neither true nor false")
    return value


def _number(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{key} is not a whole number")
    return value


def _bandwidth(given: Any) -> Bandwidth:
    if not isinstance(given, dict):
        raise InvalidArgumentError("runtimeConfig.bandwidth is not a JSON object")
    names = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
    return Bandwidth(*(_number(given, name) for name in names))


def _subnet(address: str, gateway: str) -> Subnet:
    base, prefix = _base(address)
    return Subnet(f"{_written(address, base)}/{prefix}", gateway)


def _first(address: str) -> str:
    return _written(address, _base(address)[0] + 1)


def _base(address: str) -> tuple[int, int]:
    bare, _, text = address.partition("/")
    prefix = int(text)
    hosts = (32 if result.family(address) == 4 else 128) - prefix
    return number(bare) >> hosts << hosts, prefix


def _written(like: str, value: int) -> str:
    from _socket import AF_INET, AF_INET6, inet_ntop

    if result.family(like) == 4:
        return inet_ntop(AF_INET, value.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))
