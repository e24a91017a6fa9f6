"""From Docker's words about networks and ports to the engine's.

What can be told without knowing the networks is checked here: how addresses, MACs and
ports are spelled, and which options exclude each other.
"""

import re
import socket
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from orlop.api.bandwidth import EGRESS, INGRESS, annotated_rate
from orlop.api.docker import wire
from orlop.engine.requests import NetworkRequest
from orlop.errors import InvalidArgumentError, NotFoundError, UnsupportedError
from orlop.model.container import ContainerOptions
from orlop.model.network import Bandwidth, EndpointOptions, Subnet
from orlop.model.ports import PROTOCOLS, parse_ports

DEFAULT = "bridge"
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def with_network(
    options: ContainerOptions, body: wire.Create, host: wire.HostConfig
) -> ContainerOptions:
    """Add networks, ports and names. "default" is what clients send when nobody chose."""
    mode = "none" if body.network_disabled else _mode(host.network_mode or "")
    mac = parse_mac(body.mac_address or "")
    made = replace(
        options,
        network_disabled=bool(body.network_disabled),
        network=mode,
        networks=_endpoints(body, host, mode, mac),
        mac_address=mac,
        exposed_ports=tuple(dict.fromkeys(parse_port(port) for port in body.exposed_ports or ())),
        port_bindings=parse_bindings(host.port_bindings or {}),
        publish_all=bool(host.publish_all_ports),
        bandwidth=_bandwidth(host),
        egress=None if host.egress is None else tuple(host.egress),
        dns=tuple(host.dns or ()),
        dns_search=tuple(host.dns_search or ()),
        dns_options=tuple(host.dns_options or ()),
        extra_hosts=tuple(host.extra_hosts or ()),
    )
    _refuse_conflicts(made, linked=bool(host.links))
    return made


def _mode(mode: str) -> str:
    mode = DEFAULT if mode in ("", "default") else mode
    kind, colon, rest = mode.partition(":")
    if kind == "container" and not rest:
        raise InvalidArgumentError(
            "invalid network mode: invalid container format container:<name|id>"
        )
    if kind == "ns" and colon and not rest.startswith("/"):
        raise InvalidArgumentError(
            f"invalid network mode {mode[:200]!r}: ns: needs the absolute path of a namespace"
        )
    return mode


def joins_another(mode: str) -> bool:
    """Whether a container of that network mode lives in somebody else's network namespace."""
    return mode.startswith(("container:", "ns:"))


def _endpoints(
    body: wire.Create, host: wire.HostConfig, mode: str, mac: str
) -> dict[str, EndpointOptions]:
    config = body.networking_config or wire.NetworkingConfig()
    endpoints: dict[str, EndpointOptions] = {}
    for given, settings in (config.endpoints_config or {}).items():
        name = DEFAULT if given == "default" else given
        try:
            endpoints[name] = parse_endpoint(settings)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"invalid config for network {name}: {error}") from None
    if body.network_disabled:
        return {}
    if joins_another(mode) and endpoints.keys() - {mode}:
        raise InvalidArgumentError(
            "conflicting options: networks and the network mode",
            hint=f"a container with {mode.partition(':')[0]}:… has the networks of what it joins",
        )
    if joins_another(mode):
        return {}
    return _with_main(endpoints, host, mode, mac)


def _with_main(
    endpoints: dict[str, EndpointOptions], host: wire.HostConfig, mode: str, mac: str
) -> dict[str, EndpointOptions]:
    """Give the network of the network mode what was said for the container as a whole."""
    main = endpoints.get(mode)
    if main is None and not mac and not host.links:
        return endpoints
    main = main or EndpointOptions()
    if mac and main.mac and main.mac != mac:
        raise InvalidArgumentError(
            "the container-wide MAC address must match the endpoint-specific MAC address for the"
            " main network, or be left empty"
        )
    links = (*main.links, *(_link(link) for link in host.links or ()))
    main = replace(main, mac=main.mac or mac, links=links)
    return {mode: main, **{name: at for name, at in endpoints.items() if name != mode}}


def _link(link: str) -> str:
    name, _, alias = link.partition(":")
    if not name or ":" in alias:
        raise InvalidArgumentError(f"bad format for links: {link[:200]}")
    return f"{name}:{alias or name}"


def parse_endpoint(settings: wire.EndpointSettings | None) -> EndpointOptions:
    """Return what a container asks of a network."""
    settings = settings or wire.EndpointSettings()
    ipam = settings.ipam_config or wire.EndpointIPAM()
    return EndpointOptions(
        ipv4=_address(ipam.ipv4_address or "", "IPv4 address", family=socket.AF_INET),
        ipv6=_address(ipam.ipv6_address or "", "IPv6 address", family=socket.AF_INET6),
        mac=parse_mac(settings.mac_address or ""),
        link_local=tuple(
            _address(text, "link-local IP address") for text in ipam.link_local_ips or ()
        ),
        aliases=tuple(settings.aliases or ()),
        links=tuple(_link(link) for link in settings.links or ()),
        driver_options=settings.driver_opts or {},
        gateway_priority=settings.gw_priority or 0,
    )


def _address(text: str, what: str, *, family: int = 0) -> str:
    """Return an IP address spelled the one way, "" for none; of any family for 0."""
    if not text:
        return ""
    family = family or (socket.AF_INET6 if ":" in text else socket.AF_INET)
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise InvalidArgumentError(f"invalid {what}: {text[:100]}") from None


def parse_mac(text: str) -> str:
    """Return a MAC address as the kernel writes it, "" for none."""
    mac = text.lower().replace("-", ":")
    if not mac:
        return ""
    if not _MAC.fullmatch(mac):
        raise InvalidArgumentError(f"invalid MAC address {text[:100]}")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidArgumentError(f"invalid MAC address {text}: no interface can have it")
    return mac


def parse_port(text: str) -> str:
    """Return "80/tcp" for "80", "80/TCP"; InvalidArgumentError for what is no port."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    ports = parse_ports(number)
    if len(ports) != 1 or not ports[0] or protocol not in PROTOCOLS:
        raise InvalidArgumentError(
            f'invalid port specification: "{text[:100]}"',
            hint="a number from 1 to 65535, and /tcp, /udp or /sctp",
        )
    return f"{ports[0]}/{protocol}"


def parse_bindings(
    given: Mapping[str, list[wire.PortBinding] | None],
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return where each port is to be published; a host port may be a range, or "" for any."""
    bindings: dict[str, tuple[tuple[str, str], ...]] = {}
    for port, places in given.items():
        name = parse_port(port)
        parsed = [
            (_address(place.host_ip or "", "IP address"), _host_port(place.host_port or ""))
            for place in places or ()
        ]
        bindings[name] = tuple(dict.fromkeys((*bindings.get(name, ()), *parsed)))
    return bindings


def _host_port(text: str) -> str:
    if text and not parse_ports(text):
        raise InvalidArgumentError(f'invalid port specification: "{text[:100]}"')
    return text


def _bandwidth(host: wire.HostConfig) -> Bandwidth:
    """Return the limits: our own field, or else Kubernetes' annotations."""
    given = host.bandwidth or wire.Bandwidth()
    notes = host.annotations or {}
    made = Bandwidth(
        ingress_bps=given.ingress_rate or annotated_rate(notes, INGRESS),
        ingress_burst_bits=given.ingress_burst or 0,
        egress_bps=given.egress_rate or annotated_rate(notes, EGRESS),
        egress_burst_bits=given.egress_burst or 0,
    )
    for word, rate, burst in (
        ("ingress", made.ingress_bps, made.ingress_burst_bits),
        ("egress", made.egress_bps, made.egress_burst_bits),
    ):
        if rate < 0 or burst < 0:
            raise InvalidArgumentError(f"invalid {word} bandwidth: it cannot be below 0")
        if burst and not rate:
            raise InvalidArgumentError(f"invalid {word} bandwidth: a burst needs a rate")
    return made


def _refuse_conflicts(options: ContainerOptions, *, linked: bool) -> None:
    """Refuse what a container in somebody else's network namespace cannot have."""
    mode = options.network
    kind = "host" if mode == "host" else mode.partition(":")[0] if joins_another(mode) else ""
    if kind and linked:
        raise InvalidArgumentError(
            f"conflicting options: {kind} type networking can't be used with links"
        )
    if not joins_another(mode):
        return
    if options.port_bindings or options.publish_all:
        raise InvalidArgumentError(
            f"conflicting options: port publishing and the {kind} type network mode"
        )
    if options.exposed_ports:
        raise InvalidArgumentError(
            f"conflicting options: port exposing and the {kind} type network mode"
        )
    for what, there in _shared(options, kind):
        if there:
            raise InvalidArgumentError(f"conflicting options: {what} and the network mode")


def _shared(options: ContainerOptions, kind: str) -> Iterable[tuple[str, bool]]:
    """Name what would be another container's; a namespace by path has no files and no name."""
    yield "mac-address", bool(options.mac_address)
    yield "bandwidth", options.bandwidth != Bandwidth()
    if kind == "container":
        yield "hostname", bool(options.hostname)
        yield "dns", bool(options.dns or options.dns_search or options.dns_options)
        yield "custom host-to-IP mapping", bool(options.extra_hosts)


def parse_network_create(body: wire.NetworkCreate) -> NetworkRequest:
    """Return the network that *body* asks for; the addresses in it are checked by who makes it."""
    if not (body.name or "").strip():
        raise InvalidArgumentError("invalid name: a network's name cannot be empty")
    _refuse_what_is_not_there(body)
    ipam = body.ipam or wire.IPAM()
    return NetworkRequest(
        name=body.name or "",
        driver=body.driver or "bridge",
        internal=bool(body.internal),
        attachable=bool(body.attachable),
        ipv4=body.enable_ipv4 is not False,
        ipv6=bool(body.enable_ipv6),
        subnets=tuple(_subnet(pool) for pool in ipam.config or () if pool != wire.Pool()),
        ipam_options=ipam.options,
        options=body.options or {},
        labels=body.labels or {},
    )


def _subnet(pool: wire.Pool) -> Subnet:
    return Subnet(
        subnet=pool.subnet or "",
        gateway=pool.gateway or "",
        ip_range=pool.ip_range or "",
        reserved=pool.auxiliary_addresses or pool.aux_address or {},
    )


def _refuse_what_is_not_there(body: wire.NetworkCreate) -> None:
    if body.scope == "swarm" or body.ingress:
        raise UnsupportedError(
            "cannot create a swarm scoped network when swarm is not active",
            hint="there is no swarm mode; networks over several hosts are of the driver vxlan",
        )
    if body.config_only or (body.config_from and body.config_from.network):
        raise UnsupportedError("configuration-only networks are not supported")
    ipam = body.ipam or wire.IPAM()
    if (ipam.driver or "default") != "default":
        raise NotFoundError(f'plugin "{(ipam.driver or "")[:100]}" not found')
    if ipam.options:
        raise UnsupportedError("options of the default IPAM driver are not supported")
