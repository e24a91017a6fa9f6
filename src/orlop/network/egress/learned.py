"""The addresses that names resolved to: how long and how many are open.

Nothing here does I/O; the time is an argument.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from typing import NamedTuple

from orlop.model.egress import Destination
from orlop.network.egress.outlet import Outlet

_LEAST_S, _MOST_S = 60, 3600
_MOST = 256  # per outlet
_MOST_AT_ONCE = 64  # per answer: its owner may have a thousand addresses

_Address = IPv4Address | IPv6Address

#: Networks of somebody's own, which the owner of an external name has no business in.
_PRIVATE = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),  # RFC 1918, 6598
            *("0.0.0.0/8", "192.0.0.0/24", "168.63.129.16/32"),  # RFC 6890; Azure's host
            *("fc00::/7", "fec0::/10"),  # RFC 4193, 3879
        ),
    )
)
#: Prefixes of IPv6 addresses that a translator takes an IPv4 address from, and at which bit.
_TRANSLATED = (
    *((ip_network(prefix), 0) for prefix in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96")),
    *((ip_network(prefix), 0) for prefix in ("64:ff9b::/96", "64:ff9b:1::/96")),  # RFC 6052, 8215
    (ip_network("2002::/16"), 80),  # RFC 3056
)


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


class Withheld(NamedTuple):
    """A private address that an entry's name resolved to: it opens if it is listed itself."""

    name: str  # as in the entry
    address: str  # an entry's text


class Changes(NamedTuple):
    opened: Sequence[tuple[Opening, int]]  # with seconds from now
    closed: Sequence[Opening]
    withheld: Sequence[Withheld] = ()


class Learned:
    """All openings, by outlet. One that has expired may still be open: it was in use until then."""

    def __init__(self) -> None:
        self._outlets: dict[str, dict[Opening, float]] = {}  # by interface: until

    def plan(self, outlet: Outlet, found: Iterable[Found], now: float) -> Changes:
        """Return what to open and close; done() confirms that it was done."""
        known = self._outlets.get(outlet.interface, {})
        opened: dict[Opening, int] = {}
        found = tuple(found)
        for one in found:
            seconds = min(max(one.ttl_s, _LEAST_S), _MOST_S)
            for opening in _openings(outlet, one):
                if known.get(opening, 0.0) < now + seconds - 1:
                    opened[opening] = seconds
        opened = dict(islice(opened.items(), _MOST_AT_ONCE))
        room = _MOST - len(opened)
        others = sorted((until, one) for one, until in known.items() if one not in opened)
        closed = [one for _, one in others[: max(0, len(others) - room)]]
        withheld = dict.fromkeys(each for one in found for each in _withheld(outlet, one))
        return Changes(tuple(opened.items()), closed, tuple(withheld))

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


def _withheld(outlet: Outlet, found: Found) -> Iterator[Withheld]:
    """Yield what a name's owner may have meant to open, unless the list has it."""
    address = ip_address(found.address)
    if found.ours or not any(address in network for network in _PRIVATE):
        return
    for one in found.destinations:
        if not any(_covers(listed, address, one) for listed in outlet.destinations):
            wanted = Destination(str(ip_network(address)), "", *one[2:])
            yield Withheld(one.name, str(wanted))


def _covers(listed: Destination, address: _Address, wanted: Destination) -> bool:
    """Whether packets of *wanted*'s protocol and port to *address* pass because of *listed*."""
    if not listed.network or address not in ip_network(listed.network):
        return False
    if not listed.protocol:
        return True
    is_port = listed.first_port <= wanted.first_port <= listed.last_port
    return listed.protocol == wanted.protocol and is_port


def _is_forbidden(outlet: Outlet, text: str) -> bool:
    """Whether no external name may lead there: to this host, the link, or a private network."""
    address = ip_address(text)
    if any(address in ip_network(subnet) for subnet in outlet.subnets):
        return True
    return _is_inside(address) or any(map(_is_inside, _translations(address)))


def _is_inside(address: _Address) -> bool:
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return True
    if address.is_unspecified or (address.version == 4 and address.is_reserved):
        return True
    return any(address in network for network in _PRIVATE)


def _translations(address: _Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 address that a packet for *address* may come to."""
    for prefix, low_bit in _TRANSLATED:
        if address in prefix:
            yield IPv4Address(int(address) >> low_bit & 0xFFFFFFFF)
