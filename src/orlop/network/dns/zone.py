"""The names on each network, and which of them a container sees.

A container's names are all in one View, which determines both what other containers find
under its names and what it finds itself. Nothing here does I/O or waits.
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

#: Short, because a container may have another address after a restart.
TTL_S = 10
_ID_SIZE = 12  # digits of an id that are a name as well


class Place(NamedTuple):
    """A container's place in one network."""

    network: str  # its id
    network_name: str
    addresses: tuple[str, ...]  # without prefix lengths
    aliases: tuple[str, ...] = ()
    links: Mapping[str, str] = {}  # alias: the container's name; only for this container
    internal: bool = False  # the network has no connection to the outside
    named: bool = True  # False: the network has no names, like Docker's default network


class Policy(Protocol):
    """The names that may be resolved, and what they open: network/egress/policy.py."""

    def destinations(self, name: bytes, /) -> tuple[Destination, ...]:
        """Return what a name (wire format, lower case) opens; () if it may not be resolved."""


class View(NamedTuple):
    """Everything that a container's names depend on."""

    container: str  # its id
    name: str
    places: tuple[Place, ...]  # in the order in which names are looked up
    servers: tuple[str, ...] = ()  # --dns; none: the host's
    searches: bool = False  # ndots is set: a name without a dot is never complete
    policy: Policy | None = None  # None: every name may be resolved

    @property
    def isolated(self) -> bool:
        """Whether it has no way outside: all its networks are internal. CVE-2024-29018."""
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
    """Yield the names under which others find it: its own, its aliases, the start of its id."""
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
        """Set the names of a container to *view*, replacing all earlier ones."""
        self.drop(view.container)
        self._views[view.container] = view
        named = [place for place in view.places if place.named]
        for place in named:
            self._networks.setdefault(place.network, _Network()).add(view, place)
        self._links[view.container] = [(place.network, _links(place)) for place in named]

    def drop(self, container: str) -> None:
        """Remove a container; an unknown one is no error."""
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
        """Return the records that *container* sees, in random order; None if it is not our name.

        If our name has no record of the type, nobody else is asked.
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
    """Return link aliases and their targets, in wire format."""
    result = {}
    for alias, target in place.links.items():
        for end in ("", f".{place.network_name}"):
            wire, found = wire_name(alias + end), wire_name(target)
            if wire is not None and found is not None:
                result[wire] = found
    return result


def _shuffled(found: dict[str, list[bytes]], type_: int) -> list[bytes]:
    """Return the records of all containers with a name, of this type, in random order."""
    wanted = type_.to_bytes(2, "big")
    result = [record for mine in found.values() for record in mine if record[2:4] == wanted]
    if len(result) > 1:
        random.shuffle(result)
    return result
