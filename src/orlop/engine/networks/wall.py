"""The firewall's part of attaching: which rules a network and a container's ports mean."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import cast

from orlop.engine.networks.attachment import Attachment, Place
from orlop.engine.networks.egress import Guards
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import ContainerOptions
from orlop.model.egress import parse
from orlop.model.network import Endpoint, Network, Protocol
from orlop.network import options as network_options
from orlop.network import ownership
from orlop.network.bridge_device import name_of
from orlop.network.firewall.firewall import Firewall
from orlop.network.firewall.reserve import PortRequest
from orlop.network.firewall.rules import METADATA
from orlop.network.firewall.senders import Sender, Senders
from orlop.network.firewall.state import (
    FirewallState,
    NetworkRules,
    PublishedPort,
    Reader,
    network_rules,
    published,
)
from orlop.network.firewall.watch import Watch
from orlop.network.namespace import Home

log = logging.getLogger(__name__)

_Network = IPv4Network | IPv6Network
_METADATA = tuple(map(ip_network, METADATA))
_BRIDGED = ("bridge", "tap", "vxlan")  # whose containers have a port of a bridge of this host


class Wall:
    """For the network thread. *folder* is lost with a reboot, as the rules are."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._firewall = Firewall(engine, folder)
        self._senders = Senders(self._firewall.nft, self._firewall.table)
        self._is_warned = False

    def close(self) -> None:
        self._firewall.close()

    @property
    def bridges(self) -> frozenset[str]:
        return self._firewall.bridges

    def guards(self, home: Home) -> Guards:
        """Return what holds containers to their egress lists, whose changes are ours as well."""
        return Guards(home, self._firewall.nft, self._firewall.table)

    def watch(self) -> Watch:
        return Watch(self._firewall.table, self._firewall.port)

    def restore(self) -> None:
        """Make the rules again what they were, after somebody changed them."""
        self._firewall.restore()
        with self._checking():
            self._senders.restore()

    def apply(self, networks: Iterable[Network], attachments: Sequence[Attachment]) -> None:
        """Make the rules what these mean, and nothing else."""
        with self._checking():
            self._senders.reconcile(
                sender for one in attachments for sender in _senders(one.places)
            )
        ports = tuple(port for one in attachments for port in _ports(one))
        readers = tuple(reader for one in attachments for reader in _readers(one))
        self._firewall.apply(FirewallState(tuple(map(_rules, networks)), ports, readers))

    def add(self, network: Network) -> None:
        """Add a network, whose bridge is there."""
        self._firewall.add_network(_rules(network))

    def remove(self, network: Network) -> None:
        self._firewall.remove_network(network.id)
        if not self._firewall.bridges:  # so there are no ports, though some are not released yet
            self._senders.clear()

    def admit(self, wanted: Attachment) -> None:
        """Let a container's ports send what it may send. They need not exist yet."""
        with self._checking():
            self._senders.admit(_senders(wanted.places))
        self._firewall.let_read(_readers(wanted))

    def expel(self, places: Sequence[Place]) -> None:
        """Let ports send nothing any more."""
        self._senders.release([ownership.veth_name(one) for _, one in places])
        self._firewall.stop_reading(reader for place in places for reader in _addresses(place))

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Go on where the kernel cannot check what ports send, and say so once."""
        try:
            yield
        except UnsupportedError as error:
            if not self._is_warned:
                self._is_warned = True
                log.warning("containers can send as others", extra={"why": str(error)})

    def publish(self, attachment: Attachment) -> None:
        if ports := _ports(attachment):
            self._firewall.publish(ports)

    def withdraw(self, attachment: Attachment) -> None:
        if ports := _ports(attachment):
            self._firewall.withdraw(ports)

    def republish(self, before: Attachment, after: Attachment) -> None:
        old, new = _ports(before), _ports(after)
        self._firewall.withdraw(port for port in old if port not in new)
        self._firewall.publish(new)


def requests(options: ContainerOptions) -> list[PortRequest]:
    """Return what a container's -p and -P ask for; InvalidArgumentError for what is no port."""
    wanted = []
    for port, bindings in options.port_bindings.items():
        number, protocol = _port(port)
        for host_ip, text in bindings or (("", ""),):
            first, last = _range(text)
            wanted.append(PortRequest(protocol, number, first, last, host_ip))
    exposed = options.exposed_ports if options.publish_all else ()
    for port in exposed:
        if port not in options.port_bindings:
            number, protocol = _port(port)
            wanted.append(PortRequest(protocol, number))
    return wanted


def _port(text: str) -> tuple[int, Protocol]:
    number, _, protocol = text.partition("/")
    if protocol not in ("", "tcp", "udp", "sctp") or not number.isdecimal():
        raise InvalidArgumentError(f"invalid port {text[:50]!r}", hint="such as 80/tcp")
    return int(number), cast("Protocol", protocol or "tcp")


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not text or text == "0":
        return 0, 0
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InvalidArgumentError(f"invalid port of the host {text[:50]!r}")
    return int(first), int(last or first)


def _rules(network: Network) -> NetworkRules:
    return network_rules(network, name_of(network))


def _senders(places: Iterable[Place]) -> Iterator[Sender]:
    """Give who may send from where, unless everybody may, or nobody knows the addresses."""
    for network, endpoint in places:
        is_known = network.driver in _BRIDGED and endpoint.mac and endpoint.addresses
        if is_known and not _may_spoof(network, endpoint):
            addresses = tuple(one.partition("/")[0] for one in endpoint.addresses)
            yield Sender(ownership.veth_name(endpoint), endpoint.mac, addresses)


def _readers(one: Attachment) -> Iterator[Reader]:
    """Give the addresses that may reach a cloud's metadata, as asked for, or listed by address."""
    listed = any(map(_is_metadata, one.egress or ()))
    for place in one.places:
        asked = network_options.flag(
            place.endpoint.driver_options, network_options.METADATA, default=listed
        )
        if asked and place.network.driver in _BRIDGED:
            yield from _addresses(place)


def _is_metadata(text: str) -> bool:
    listed = parse(text).network
    return any(listed and _is_within(ip_network(listed), one) for one in _METADATA)


def _is_within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _addresses(place: Place) -> Iterator[Reader]:
    for address in place.endpoint.addresses:
        yield Reader(name_of(place.network), address.partition("/")[0])


def _may_spoof(network: Network, endpoint: Endpoint) -> bool:
    of_network = network_options.flag(network.options, network_options.SPOOFING, default=False)
    return network_options.flag(
        endpoint.driver_options, network_options.SPOOFING, default=of_network
    )


def _ports(attachment: Attachment) -> list[PublishedPort]:
    """Return where the ports lead: to the networks over which the container reaches the world."""
    if not attachment.ports:
        return []
    found: list[PublishedPort] = []
    for network, endpoint in attachment.places:
        families = {6 if ":" in route.destination else 4 for route in endpoint.routes}
        addresses = [one for one in endpoint.addresses if (6 if ":" in one else 4) in families]
        found += published(network.id, attachment.ports, addresses)
    return found
