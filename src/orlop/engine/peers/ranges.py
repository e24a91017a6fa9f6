"""The addresses that a host allocates: ranges that it owns, and gives parts of away.

At any moment an address is in the ranges of at most one host, or in a gift on its way.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

_FINEST = 20  # how often a range is halved in search of a free part


def contains(owned: Iterable[str], address: str) -> bool:
    """Whether *address* is in one of the ranges."""
    wanted = ipaddress.ip_address(address)
    return any(wanted in ipaddress.ip_network(each) for each in owned)


def overlaps(owned: Iterable[str], other: str) -> bool:
    wanted = ipaddress.ip_network(other)
    return any(_overlap(ipaddress.ip_network(each), wanted) for each in owned)


def within(owned: Iterable[str], subnet: str) -> list[str]:
    """Return the ranges that are part of *subnet*."""
    whole = ipaddress.ip_network(subnet)
    return [each for each in owned if _is_part(ipaddress.ip_network(each), whole)]


def joined(owned: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    """Return the ranges of both, with adjacent ones merged."""
    found: list[Range] = [ipaddress.ip_network(each) for each in (*owned, *more)]
    four = [each for each in found if isinstance(each, ipaddress.IPv4Network)]
    six = [each for each in found if isinstance(each, ipaddress.IPv6Network)]
    collapsed: list[Range] = [
        *ipaddress.collapse_addresses(four),
        *ipaddress.collapse_addresses(six),
    ]
    return tuple(str(each) for each in collapsed)


def without(owned: Iterable[str], given: str) -> tuple[str, ...]:
    """Return the ranges without *given*, which is part of one of them."""
    gone = ipaddress.ip_network(given)
    left: list[str] = []
    for text in owned:
        each = ipaddress.ip_network(text)
        if _is_part(gone, each):
            left.extend(str(part) for part in _exclude(each, gone))
        else:
            left.append(text)
    return joined(left, ())


def share(owned: Iterable[str], subnet: str, taken: Collection[str]) -> str | None:
    """Return the part of *owned* in *subnet* to give away: the largest free half.

    It has none of the addresses *taken*; None if there is no such part.
    """
    used = [ipaddress.ip_address(address) for address in taken]
    candidates: list[Range] = [ipaddress.ip_network(each) for each in within(owned, subnet)]
    for _ in range(_FINEST):
        candidates = [half for each in candidates for half in _halves(each, used)]
        free = [each for each in candidates if not any(address in each for address in used)]
        if free:
            return str(min(free, key=lambda each: (each.prefixlen, -int(each.network_address))))
    return None


def single(owned: Iterable[str], address: str, taken: Collection[str]) -> str | None:
    """Return the range of *address* alone, if we can give it away."""
    wanted = ipaddress.ip_address(address)
    if not contains(owned, address) or any(ipaddress.ip_address(each) == wanted for each in taken):
        return None
    return str(ipaddress.ip_network(address))


def first_free(owned: Iterable[str], subnet: str, taken: Collection[str]) -> str | None:
    """Return an owned free address of *subnet* that is not its network or broadcast address."""
    whole = ipaddress.ip_network(subnet)
    used = {ipaddress.ip_address(address) for address in taken}
    used |= {whole.network_address, whole.broadcast_address}
    for each in within(owned, subnet):
        for address in _addresses(ipaddress.ip_network(each)):
            if address not in used:
                return str(address)
    return None


def _addresses(whole: Range) -> Iterator[Address]:
    first = whole.network_address
    for offset in range(min(whole.num_addresses, 1 << 16)):
        yield first + offset


def _halves(whole: Range, used: list[Address]) -> list[Range]:
    """Return the halves that may have a free part: full ones are left out."""
    if whole.prefixlen == whole.max_prefixlen:
        return []
    halves: list[Range] = list(whole.subnets())
    return [each for each in halves if sum(a in each for a in used) < each.num_addresses]


def _exclude(whole: Range, part: Range) -> Iterator[Range]:
    """Yield the rest of *whole* without *part*, which has the same family."""
    yield from whole.address_exclude(part)  # type: ignore[arg-type]  # see above


def _is_part(part: Range, whole: Range) -> bool:
    if isinstance(part, ipaddress.IPv4Network) and isinstance(whole, ipaddress.IPv4Network):
        return part.subnet_of(whole)
    if isinstance(part, ipaddress.IPv6Network) and isinstance(whole, ipaddress.IPv6Network):
        return part.subnet_of(whole)
    return False


def _overlap(one: Range, other: Range) -> bool:
    return _is_part(one, other) or _is_part(other, one)
