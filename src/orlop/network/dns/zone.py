"""Which names there are on which network, and what a container sees of them.

A container says all it has in one View, from which both follow: what others find under
its names, and what it finds itself. Nothing here does I/O or waits.
"""

import ipaddress
import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

from orlop.model.egress import Destination
from orlop.network.dns.message import (
    IN,
    Query,
    Type,
    address_record,
    pointer_record,
    reverse_name,
    wire_name,
)

V = TypeVar("V")

#: Short, since a container that is started anew may have another address.
TTL_S = 10
_ID_SIZE = 12  # of an id's start, which is a name as well


class Place(NamedTuple):
    """A container's place in one network."""

    network: str  # its id
    network_name: str
    addresses: tuple[str, ...]  # without prefix lengths
    aliases: tuple[str, ...] = ()
    links: Mapping[str, str] = {}  # alias: the container's name; seen by this container alone
    internal: bool = False  # nothing leaves this network
    named: bool = True  # False: no names there, as on Docker's default network


class Policy(Protocol):
    """Which names may be asked for, and what they open: network/egress/policy.py."""

    def destinations(self, name: bytes, /) -> tuple[Destination, ...]:
        """Return what a name on the wire, in lower case, opens; () where it may not be asked."""


class View(NamedTuple):
    """All that the names of a container depend on."""

    container: str  # its id
    name: str
    places: tuple[Place, ...]  # names are looked for in this order
    servers: tuple[str, ...] = ()  # --dns; none: the host's
    searches: bool = False  # ndots is set: a name without a dot is never the whole name
    policy: Policy | None = None  # None: every name may be asked for

    @property
    def isolated(self) -> bool:
        """Whether nothing may leave: all its networks are internal. CVE-2024-29018."""
        return all(place.internal for place in self.places)


class _Network:
    def __init__(self) -> None:
        self.names: dict[bytes, dict[str, list[bytes]]] = {}  # name: container: records
        self.addresses: dict[bytes, dict[str, bytes]] = {}  # reverse name: container: PTR record

    def add(self, view: View, place: Place) -> None:
        packed = [ipaddress.ip_address(address).packed for address in place.addresses]
        records = [address_record(address, TTL_S) for address in packed]
        for name in names_of(view, place):
            for wire in (wire_name(name), wire_name(f"{name}.{place.network_name}")):
                if wire is not None:
                    self.names.setdefault(wire, {})[view.container] = records
        full = wire_name(f"{view.name}.{place.network_name}")
        for address in packed if full is not None else ():
            pointer = pointer_record(full or b"", TTL_S)
            self.addresses.setdefault(reverse_name(address), {})[view.container] = pointer

    def remove(self, view: View, place: Place) -> None:
        for name in names_of(view, place):
            for wire in (wire_name(name), wire_name(f"{name}.{place.network_name}")):
                _drop(self.names, wire, view.container)
        for address in place.addresses:
            reverse = reverse_name(ipaddress.ip_address(address).packed)
            _drop(self.addresses, reverse, view.container)


def names_of(view: View, place: Place) -> Iterator[str]:
    """Give the names under which others find it: its own, its aliases, its id's start."""
    yield view.name
    yield view.container[:_ID_SIZE]
    yield from place.aliases


def _drop(table: dict[bytes, dict[str, V]], key: bytes | None, container: str) -> None:
    if key in table:
        table[key].pop(container, None)
        if not table[key]:
            del table[key]


class Zone:
    """The names of all networks of an engine."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}
        self._views: dict[str, View] = {}
        self._links: dict[str, list[tuple[str, dict[bytes, bytes]]]] = {}

    def put(self, view: View) -> None:
        """Let the container have what *view* says, and nothing else that it had before."""
        self.drop(view.container)
        self._views[view.container] = view
        named = [place for place in view.places if place.named]
        for place in named:
            self._networks.setdefault(place.network, _Network()).add(view, place)
        self._links[view.container] = [(place.network, _links(place)) for place in named]

    def drop(self, container: str) -> None:
        """Forget a container; one that is not known is no error."""
        view = self._views.pop(container, None)
        self._links.pop(container, None)
        if view is None:
            return
        for place in view.places:
            network = self._networks.get(place.network)
            if network is not None:
                network.remove(view, place)
                if not network.names and not network.addresses:
                    del self._networks[place.network]

    def view(self, container: str) -> View | None:
        return self._views.get(container)

    def __len__(self) -> int:
        return len(self._views)

    def records(self, container: str, query: Query) -> list[bytes] | None:
        """Return what *container* finds, in a random order; None: it is no name of ours.

        A name that has no record of the type is still ours: nobody else is asked.
        """
        if query.class_ != IN:
            return None
        for network_id, links in self._links.get(container, ()):
            network = self._networks.get(network_id)
            if network is None:
                continue
            if query.type == Type.PTR and query.name in network.addresses:
                return list(network.addresses[query.name].values())
            found = network.names.get(links.get(query.name, query.name))
            if found is not None:
                return _shuffled(found, query.type)
        return None


def _links(place: Place) -> dict[bytes, bytes]:
    """Return link aliases and what they stand for, on the wire."""
    result = {}
    for alias, target in place.links.items():
        for end in ("", f".{place.network_name}"):
            wire, found = wire_name(alias + end), wire_name(target)
            if wire is not None and found is not None:
                result[wire] = found
    return result


def _shuffled(found: dict[str, list[bytes]], type_: int) -> list[bytes]:
    """Return the records of all who have a name: those of the type, in a random order."""
    wanted = type_.to_bytes(2, "big")
    result = [record for mine in found.values() for record in mine if record[2:4] == wanted]
    if len(result) > 1:
        random.shuffle(result)
    return result
