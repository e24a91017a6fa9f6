"""Render the engine's networks and endpoints in the format of Docker's API."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orlop.api.docker.times import rfc3339
from orlop.model.container import Container
from orlop.model.network import Endpoint, EndpointOptions, Network, PortMapping, Subnet

Shape = dict[str, Any]
Networks = Mapping[str, Network]  # by id

_DEFAULT = "bridge"
_DRIVERS = {"none": "null"}
#: The endpoint of a container that is not connected.
_NOWHERE: Shape = {
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}


def render_network(network: Network, attached: Iterable[tuple[Container, Endpoint]] = ()) -> Shape:
    """Return a network, with its endpoints (*attached*) as in inspect."""
    predefined = network.driver in ("host", "null", "none")
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created_ns),
        "Scope": "local",
        "Driver": _DRIVERS.get(network.driver, network.driver),
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": network.ipam_options,
            "Config": None if predefined else [_pool(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.id: _member(container, endpoint) for container, endpoint in attached
        },
        "Options": network.options,
        "Labels": network.labels,
    }


def _pool(subnet: Subnet) -> Shape:
    shape = {
        "Subnet": subnet.subnet,
        "IPRange": subnet.ip_range,
        "Gateway": subnet.gateway,
        "AuxiliaryAddresses": subnet.reserved,
    }
    return {name: value for name, value in shape.items() if value}


def _member(container: Container, endpoint: Endpoint) -> Shape:
    return {
        "Name": container.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": _first(endpoint.addresses, ipv6=False),
        "IPv6Address": _first(endpoint.addresses, ipv6=True),
    }


def render_settings(container: Container, networks: Networks) -> Shape:
    """Return NetworkSettings of inspect. SandboxKey can be opened while the container runs."""
    joined = render_networks(container, networks)
    default = joined.get(_DEFAULT, _NOWHERE)
    return {
        "Bridge": "",
        "SandboxID": container.id if container.running and container.endpoints else "",
        "SandboxKey": f"/proc/{container.pid}/ns/net" if container.running else "",
        "Ports": _published(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: default[name] for name in _NOWHERE},
        "Networks": joined,
    }


def render_networks(container: Container, networks: Networks) -> Shape:
    """Return each network of the container, with its options and its endpoint."""
    mode = container.options.network
    ids = {network.name: network.id for network in networks.values()}
    endpoints = {_name(endpoint.network, networks): endpoint for endpoint in container.endpoints}
    asked = container.options.networks
    main = [mode] if mode in ("none", "host") else []  # other modes are networks
    joined: Shape = {}
    for name in dict.fromkeys((*main, *asked, *endpoints)):
        network = networks.get(ids.get(name, name))
        key = network.name if network else name  # a mode may be an id
        options = asked.get(name, EndpointOptions())
        shape = _joined(container, key, options, endpoints.get(key), network)
        if key not in joined or options != EndpointOptions():
            joined[key] = shape
    return joined


def _joined(
    container: Container,
    name: str,
    options: EndpointOptions,
    endpoint: Endpoint | None,
    network: Network | None,
) -> Shape:
    ours = name not in (_DEFAULT, "host", "none")
    placed = _placed(endpoint, network) if endpoint else {**_NOWHERE, "MacAddress": options.mac}
    return {
        "IPAMConfig": _ipam(options) or None,
        "Links": options.links or None if name != _DEFAULT else None,
        "Aliases": options.aliases or None,
        "NetworkID": network.id if network else "",
        "DriverOpts": options.driver_options or None,
        "GwPriority": options.gateway_priority,
        "DNSNames": _dns_names(container, options) if ours else None,
        **placed,
    }


def _ipam(options: EndpointOptions) -> Shape:
    shape: Shape = {
        "IPv4Address": options.ipv4,
        "IPv6Address": options.ipv6,
        "LinkLocalIPs": options.link_local,
    }
    return {name: value for name, value in shape.items() if value}


def _dns_names(container: Container, options: EndpointOptions) -> list[str]:
    short = container.id[:12]
    names = (container.name, *options.aliases, short, container.options.hostname)
    return [name for name in dict.fromkeys(names) if name]


def _placed(endpoint: Endpoint, network: Network | None) -> Shape:
    ipv4, _, ipv4_length = _first(endpoint.addresses, ipv6=False).partition("/")
    ipv6, _, ipv6_length = _first(endpoint.addresses, ipv6=True).partition("/")
    return {
        "EndpointID": endpoint.id,
        "Gateway": _gateway(network, ipv6=False),
        "IPAddress": ipv4,
        "IPPrefixLen": int(ipv4_length or 0),
        "IPv6Gateway": _gateway(network, ipv6=True),
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": int(ipv6_length or 0),
        "MacAddress": endpoint.mac,
    }


def _first(addresses: Iterable[str], *, ipv6: bool) -> str:
    """Return the first address of a family; link-local ones come last."""
    return next((text for text in addresses if (":" in text) == ipv6), "")


def _gateway(network: Network | None, *, ipv6: bool) -> str:
    if network is None or network.internal:
        return ""
    gateways = (subnet.gateway for subnet in network.subnets)
    return next((text for text in gateways if text and (":" in text) == ipv6), "")


def _name(network_id: str, networks: Networks) -> str:
    network = networks.get(network_id)
    return network.name if network else network_id


def _published(container: Container) -> Shape:
    """Return container port -> host addresses; None for a port that is only exposed."""
    ports: Shape = {}
    if not container.running or not container.endpoints:
        return ports
    for mapping in container.ports:
        places = ports.setdefault(f"{mapping.container_port}/{mapping.protocol}", [])
        port = str(mapping.host_port)
        places += [{"HostIp": address, "HostPort": port} for address in host_addresses(mapping)]
    return ports | {port: None for port in container.options.exposed_ports if port not in ports}


def render_ports(container: Container) -> list[Shape]:
    """Return Ports of a list item: published and exposed ones."""
    published = _published(container)
    return [item for port, places in published.items() for item in _listed(port, places)]


def _listed(port: str, places: list[Shape] | None) -> Iterator[Shape]:
    number, _, protocol = port.partition("/")
    if places is None:
        yield {"PrivatePort": int(number), "Type": protocol}
    for place in places or ():
        yield {
            "IP": place["HostIp"],
            "PrivatePort": int(number),
            "PublicPort": int(place["HostPort"]),
            "Type": protocol,
        }


def host_addresses(mapping: PortMapping) -> tuple[str, ...]:
    """Return all host addresses of a published port."""
    return (mapping.host_ip,) if mapping.host_ip else ("0.0.0.0", "::")
