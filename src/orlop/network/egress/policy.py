"""The DNS names that a sandbox may resolve, and what they open."""

from collections.abc import Iterable

from orlop.model.egress import Destination
from orlop.network.dns.message import wire_name


class Policy:
    """The names of an egress list; without names, nothing may be resolved."""

    def __init__(self, destinations: Iterable[Destination]) -> None:
        self._named: dict[bytes, tuple[Destination, ...]] = {}
        self._below: dict[bytes, tuple[Destination, ...]] = {}
        for one in destinations:
            wire = wire_name(one.name.removeprefix("*.")) if one.name else None
            if wire is not None:
                table = self._below if one.name.startswith("*.") else self._named
                table[wire] = (*table.get(wire, ()), one)

    def destinations(self, name: bytes) -> tuple[Destination, ...]:
        """Return what a name (wire format, lower case) opens; () if it may not be resolved."""
        found = self._named.get(name, ())
        at = 0
        while self._below and (length := name[at]):
            at += 1 + length
            found += self._below.get(name[at:], ())
        return found
