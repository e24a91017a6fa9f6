"""The firewall's part of attaching: which rules a network and a container's ports mean."""

import logging
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import cast

from orlop.engine.networks.attachment import Attachment, Place
from orlop.engine.networks.egress import Guards
from orlop.errors import InvalidArgumentError, UnavailableError, UnsupportedError
from orlop.kernel.netlink import links
from orlop.model.container import ContainerOptions
from orlop.model.egress import parse
from orlop.model.network import Endpoint, Network, Protocol
from orlop.model.ports import PROTOCOLS, parse_ports
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
    Note,
    PublishedPort,
    network_rules,
    published,
)
from orlop.network.firewall.watch import Watch
from orlop.network.namespace import Home
from orlop.network.options import BRIDGED

log = logging.getLogger(__name__)

_Network = IPv4Network | IPv6Network
_METADATA = tuple(map(ip_network, METADATA))


class Wall:
    """For the network thread. *folder* is lost with a reboot, as the rules are."""

    def __init__(
        self, engine: str, folder: Path, home: Home, lacks: MutableMapping[str, str]
    ) -> None:
        self._home = home
        self._firewall = Firewall(engine, folder)
        self._senders = Senders(self._firewall.nft, self._firewall.table)
        self._noted: dict[str, list[Note]] = {}  # by interface
        self._lacks = lacks

    def close(self) -> None:
        self._firewall.close()

    @property
    def bridges(self) -> frozenset[str]:
        return self._firewall.bridges

    def guards(self) -> Guards:
        """Return what holds containers to their egress lists, whose changes are ours as well."""
        return Guards(self._home, self._firewall.nft, self._firewall.table)

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
                sender for one in attachments for sender in self._sending(one.places)
            )
        ports = tuple(port for one in attachments for port in _ports(one))
        noted = {name: notes for one in attachments for name, notes in _noted(one)}
        notes = tuple(note for some in noted.values() for note in some)
        self._firewall.apply(FirewallState(tuple(map(_rules, networks)), ports, notes))
        self._noted = noted

    def add(self, network: Network) -> None:
        """Add a network, whose bridge is there."""
        self._firewall.add_network(_rules(network))

    def remove(self, network: Network) -> None:
        self._firewall.remove_network(network.id)
        if not self._firewall.bridges:  # so there are no ports, though some are not released yet
            self._senders.clear()

    def admit(self, wanted: Attachment) -> None:
        """Let a container's ports send what it may send. They need not exist yet.

        UnavailableError if a bridge does not.
        """
        with self._checking():
            self._senders.admit(self._sending(wanted.places))
        noted = dict(_noted(wanted))
        self._noted.update(noted)
        self._firewall.note(note for some in noted.values() for note in some)

    def expel(self, places: Sequence[Place]) -> None:
        """Let ports send nothing any more; a second time is no error, whoever has the address."""
        interfaces = [ownership.veth_name(one) for _, one in places]
        self._senders.release(interfaces)
        self._firewall.forget(note for name in interfaces for note in self._noted.pop(name, ()))

    def _sending(self, places: Iterable[Place]) -> Iterator[Sender]:
        """Give ports that are checked or apart, where the addresses are known."""
        for network, endpoint in places:
            is_checked = bool(endpoint.addresses) and not _may_spoof(network, endpoint)
            is_apart = _is_apart(endpoint)
            if network.driver in BRIDGED and endpoint.mac and (is_checked or is_apart):
                yield Sender(
                    ownership.veth_name(endpoint),
                    endpoint.mac,
                    tuple(one.partition("/")[0] for one in endpoint.addresses),
                    is_checked,
                    self._bridge_mac(network) if is_apart else "",
                )

    def _bridge_mac(self, network: Network) -> str:
        bridge = links.find(self._home.netlink, name_of(network))
        if bridge is None:
            raise UnavailableError(f"network {network.name} has lost its bridge")
        return bridge.mac

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Go on where the kernel cannot check what ports send, and say so once."""
        try:
            yield
        except UnsupportedError as error:
            if "bridge" not in self._lacks:
                self._lacks["bridge"] = str(error)
                what = "containers can send as others, and nobody is apart from neighbours"
                log.warning(what, extra={"why": str(error)})

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
    ports = parse_ports(number)
    if protocol not in ("", *PROTOCOLS) or len(ports) != 1:
        raise InvalidArgumentError(f"invalid port {text[:50]!r}", hint="such as 80/tcp")
    return ports[0], cast("Protocol", protocol or "tcp")


def _range(text: str) -> tuple[int, int]:
    ports = parse_ports(text or "0")
    if not ports:
        raise InvalidArgumentError(f"invalid port of the host {text[:50]!r}")
    return ports[0], ports[-1]


def _rules(network: Network) -> NetworkRules:
    return network_rules(network, name_of(network))


def _noted(one: Attachment) -> Iterator[tuple[str, list[Note]]]:
    """Give what is special about a container's addresses, by interface."""
    listed = any(map(_is_metadata, one.egress or ()))  # it asks for metadata by its egress list
    for place in one.places:
        _, endpoint = place
        asked = network_options.flag(
            endpoint.driver_options, network_options.METADATA, default=listed
        )
        if place.network.driver in BRIDGED and (asked or _is_apart(endpoint)):
            notes = [Note("readers", *each) for each in _addresses(place) if asked]
            notes += [Note("apart", *each) for each in _addresses(place) if _is_apart(endpoint)]
            yield ownership.veth_name(endpoint), notes


def _is_metadata(text: str) -> bool:
    listed = parse(text).network
    return any(listed and _is_within(ip_network(listed), one) for one in _METADATA)


def _is_within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _addresses(place: Place) -> Iterator[tuple[str, str]]:
    """Give bridge and address, for each address."""
    for address in place.endpoint.addresses:
        yield name_of(place.network), address.partition("/")[0]


def _is_apart(endpoint: Endpoint) -> bool:
    """Whether it is to exchange packets with this host alone, and not with its neighbours."""
    neighbours = network_options.NEIGHBOURS
    return not network_options.flag(endpoint.driver_options, neighbours, default=True)


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
