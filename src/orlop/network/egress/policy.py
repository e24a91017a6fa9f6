"""Which DNS names a sandbox may ask for, and what is opened where they lead."""

from collections.abc import Iterable

from orlop.model.egress import Destination
from orlop.network.dns.message import wire_name


class Policy:
    """The names of an egress list; without any, nothing may be asked for."""

    def __init__(self, destinations: Iterable[Destination]) -> None:
        self._named: dict[bytes, tuple[Destination, ...]] = {}
        self._below: dict[bytes, tuple[Destination, ...]] = {}
        for one in destinations:
            wire = wire_name(one.name.removeprefix("*.")) if one.name else None
            if wire is not None:
                table = self._below if one.name.startswith("*.") else self._named
                table[wire] = (*table.get(wire, ()), one)

    def destinations(self, name: bytes) -> tuple[Destination, ...]:
        """Return what a name, as it is on the wire in lower case, opens; () where it may not be."""
        found = self._named.get(name, ())
        at = 0
        while self._below and (length := name[at]):
            at += 1 + length
            found += self._below.get(name[at:], ())
        return found
