"""The addresses that names resolved to: how long and how many are open.

Nothing here does I/O; the time is an argument.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import NamedTuple

from orlop.model.egress import Destination
from orlop.network.egress.outlet import Outlet

_LEAST_S, _MOST_S = 60, 3600
_MOST = 256  # per outlet
_MOST_AT_ONCE = 64  # per answer: its owner may have a thousand addresses


class Found(NamedTuple):
    """An address that a name of an egress list resolved to."""

    address: str
    ttl_s: int
    destinations: tuple[Destination, ...]  # entries of the list with that name
    ours: bool = False  # another container's, as the engine knows


class Opening(NamedTuple):
    """An element: this address on this bridge may send there. "" for all protocols."""

    bridge: str
    source: str
    address: str
    protocol: str = ""
    port: int = 0

    @property
    def set(self) -> str:
        return f"{'ports' if self.protocol else 'all'}{6 if ':' in self.address else 4}"


class Changes(NamedTuple):
    opened: Sequence[tuple[Opening, int]]  # with seconds from now
    closed: Sequence[Opening]


class Learned:
    """All openings, by outlet. One that has expired may still be open: it was in use until then."""

    def __init__(self) -> None:
        self._outlets: dict[str, dict[Opening, float]] = {}  # by interface: until

    def plan(self, outlet: Outlet, found: Iterable[Found], now: float) -> Changes:
        """Return what to open and close; done() confirms that it was done."""
        known = self._outlets.get(outlet.interface, {})
        opened: dict[Opening, int] = {}
        for one in found:
            seconds = min(max(one.ttl_s, _LEAST_S), _MOST_S)
            for opening in _openings(outlet, one):
                if known.get(opening, 0.0) < now + seconds - 1:
                    opened[opening] = seconds
        opened = dict(islice(opened.items(), _MOST_AT_ONCE))
        room = _MOST - len(opened)
        others = sorted((until, one) for one, until in known.items() if one not in opened)
        closed = [one for _, one in others[: max(0, len(others) - room)]]
        return Changes(tuple(opened.items()), closed)

    def done(self, outlet: Outlet, changes: Changes, now: float) -> None:
        known = self._outlets.setdefault(outlet.interface, {})
        for one in changes.closed:
            known.pop(one, None)
        known.update({one: now + seconds for one, seconds in changes.opened})

    def adopt(self, outlet: Outlet, opening: Opening, until: float) -> None:
        """Add an opening that exists already."""
        self._outlets.setdefault(outlet.interface, {})[opening] = until

    def of(self, outlet: Outlet) -> list[Opening]:
        """Return all openings that may exist for the outlet."""
        return list(self._outlets.get(outlet.interface, ()))

    def forget(self, outlet: Outlet) -> None:
        self._outlets.pop(outlet.interface, None)

    def left(self, now: float) -> Iterator[tuple[Opening, int]]:
        """Yield the openings that have not expired, with the remaining seconds."""
        for known in self._outlets.values():
            for one, until in known.items():
                if until > now + 1:
                    yield one, int(until - now)


def _openings(outlet: Outlet, found: Found) -> Iterator[Opening]:
    address = ip_address(found.address)
    if not found.ours and _is_forbidden(outlet, found.address):
        return
    for source in outlet.addresses:
        if ip_address(source).version == address.version:
            for one in found.destinations:
                yield Opening(outlet.bridge, source, str(address), one.protocol, one.first_port)


def _is_forbidden(outlet: Outlet, text: str) -> bool:
    """Whether no external name may lead there: to the link, this host, or a neighbour."""
    address = ip_address(text)
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return True
    if address.is_unspecified or (address.version == 4 and address.is_reserved):
        return True
    return any(address in ip_network(subnet) for subnet in outlet.subnets)
