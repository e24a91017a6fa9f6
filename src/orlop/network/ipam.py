"""Choose subnets, addresses and MACs. Pure: the caller says what is taken.

The pools, and the errors when nothing is left, are Docker's.
"""

import heapq
import secrets
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from orlop.errors import AlreadyExistsError, ExhaustedError, InvalidArgumentError, WrongStateError
from orlop.model.network import Subnet

AnyNetwork = IPv4Network | IPv6Network
AnyAddress = IPv4Address | IPv6Address

#: The source of subnets if none is given: a block, and the prefix length of its parts.
DEFAULT_POOLS: Sequence[tuple[str, int]] = (
    *((f"172.{number}.0.0/16", 16) for number in range(17, 32)),
    ("192.168.0.0/16", 20),
)
_SITE_BITS = 40  # of a unique local address, after the first eight. RFC 4193, 3.1
_SUBNET_BITS = 16


def choose_ipv4(taken: Iterable[str], pools: Sequence[tuple[str, int]] = DEFAULT_POOLS) -> str:
    """Return the first subnet of *pools* that overlaps none of *taken*."""
    others = _ranges(taken, 4)
    for block, length in pools:
        for candidate in ip_network(block).subnets(new_prefix=length):
            if not _overlaps(candidate, others):
                return str(candidate)
    raise ExhaustedError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults"
        " to assign to the network",
        hint="remove networks, or name a --subnet",
    )


def choose_ipv6(taken: Iterable[str], site: bytes) -> str:
    """Return a free /64 of the unique local block of *site*: any bytes, always the same."""
    others = _ranges(taken, 6)
    number = int.from_bytes(site[: _SITE_BITS // 8].ljust(_SITE_BITS // 8, b"\0"))
    prefix = (0xFD << _SITE_BITS | number) << _SUBNET_BITS
    for subnet in range(1 << _SUBNET_BITS):
        candidate = IPv6Network(((prefix | subnet) << 64, 64))
        if not _overlaps(candidate, others):
            return str(candidate)
    raise ExhaustedError(
        "could not find an available, non-overlapping IPv6 address pool among the defaults"
        " to assign to the network",
        hint="remove networks, or name a --subnet",
    )


def check_free(subnet: str, taken: Iterable[str]) -> None:
    """Raise WrongStateError, in Docker's words, if *subnet* overlaps one of *taken*."""
    if clashes([subnet], taken):
        raise WrongStateError(
            "invalid pool request: Pool overlaps with other one on this address space",
            hint=f"{subnet} is in use by another network",
        )


def clashes(subnets: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of *subnets* overlaps one of *others*; default routes are ignored."""
    others = list(others)
    return any(
        _overlaps(wanted, _ranges(others, wanted.version)) for wanted in map(ip_network, subnets)
    )


def _ranges(networks: Iterable[str], version: int) -> list[tuple[int, int]]:
    """Return first and last address of each; default routes are left out."""
    parsed = (ip_network(text, strict=False) for text in networks)
    return [
        (int(network.network_address), int(network.broadcast_address))
        for network in parsed
        if network.version == version and network.prefixlen
    ]


def _overlaps(network: AnyNetwork, others: Iterable[tuple[int, int]]) -> bool:
    first, last = int(network.network_address), int(network.broadcast_address)
    return any(first <= end and start <= last for start, end in others)


def checked(subnet: Subnet) -> Subnet:
    """Return *subnet* with its addresses in canonical form; InvalidArgumentError if invalid."""
    whole = _block(subnet.subnet, "subnet")
    if subnet.ip_range:
        part = _block(subnet.ip_range, "ip-range")
        if part.version != whole.version or not _contains(whole, part):
            raise InvalidArgumentError(
                f"invalid network config: invalid ip-range {part}:"
                f" parent subnet {whole} doesn't contain ip-range"
            )
    if whole.is_loopback or whole.is_multicast:
        raise InvalidArgumentError(
            f"invalid network config: invalid subnet {whole}: no interface has such addresses"
        )
    if whole.num_addresses < 2:
        raise InvalidArgumentError(
            f"invalid network config: invalid subnet {whole}: there is room for no container"
        )
    gateway = _inside(whole, subnet.gateway, "gateway") if subnet.gateway else ""
    kept = {
        name: _inside(whole, address, f"auxiliary address {name}")
        for name, address in subnet.reserved.items()
    }
    return Subnet(
        subnet=str(whole),
        gateway=gateway,
        ip_range=str(_block(subnet.ip_range, "ip-range")) if subnet.ip_range else "",
        reserved=kept,
    )


def with_gateway(subnet: Subnet) -> Subnet:
    """Return *subnet* with a gateway: its own, or the first address that may be one."""
    if subnet.gateway:
        return subnet
    addresses = Addresses(Subnet(subnet=subnet.subnet, reserved=subnet.reserved))
    gateway = addresses.take()
    if gateway is None:
        raise ExhaustedError(f"no address of subnet {subnet.subnet} is left for its gateway")
    return Subnet(
        subnet=subnet.subnet, gateway=gateway, ip_range=subnet.ip_range, reserved=subnet.reserved
    )


def _block(text: str, what: str) -> AnyNetwork:
    try:
        network = ip_network("" if "%" in text else text, strict=False)
        exact = "/" in text and ip_address(text.partition("/")[0]) == network.network_address
    except ValueError:
        raise InvalidArgumentError(
            f"invalid network config: invalid {what} {text[:100]!r}: invalid CIDR block notation"
        ) from None
    if not exact:
        raise InvalidArgumentError(
            f"invalid network config: invalid {what} {text[:100]}: it should be {network}"
        )
    return network


def _inside(whole: AnyNetwork, text: str, what: str) -> str:
    address = parse_address(text, what)
    if address.version != whole.version or address not in whole:
        raise InvalidArgumentError(
            f"invalid network config: invalid {what} {address}:"
            f" parent subnet {whole} doesn't contain this address"
        )
    return str(address)


def _contains(whole: AnyNetwork, part: AnyNetwork) -> bool:
    first, last = int(whole.network_address), int(whole.broadcast_address)
    return first <= int(part.network_address) and int(part.broadcast_address) <= last


def parse_address(text: str, what: str = "IP address") -> AnyAddress:
    """Parse an address without a zone; InvalidArgumentError says that it is no *what*."""
    try:
        return ip_address("" if "%" in text else text)
    except ValueError:
        raise InvalidArgumentError(f"invalid {what} {text[:100]!r}: invalid IP address") from None


class Addresses:
    """The addresses in use of one subnet. The lowest free one is allocated next.

    Allocating and releasing cost the same with few and with many in use.
    """

    def __init__(self, subnet: Subnet) -> None:
        self.whole = ip_network(subnet.subnet)
        part = ip_network(subnet.ip_range) if subnet.ip_range else self.whole
        first, last = _hosts(self.whole)
        self._next = max(first, int(part.network_address))
        self._first = self._next
        self._last = min(last, int(part.broadcast_address))
        kept = [subnet.gateway, *subnet.reserved.values()]
        self._kept = {int(ip_address(address)) for address in kept if address}
        self._used: set[int] = set()
        self._freed: list[int] = []  # a heap of addresses below _next, each at most once
        self._in_heap: set[int] = set()

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, address: str) -> bool:
        return ip_address(address) in self.whole

    def taken(self) -> list[str]:
        """Return the addresses that are in use, or reserved."""
        return [self._text(number) for number in self._used | self._kept]

    def take(self) -> str | None:
        """Allocate the lowest free address; None if there is none."""
        for number in self._candidates():
            if number not in self._used and number not in self._kept:
                self._used.add(number)
                return self._text(number)
        return None

    def claim(self, address: str) -> None:
        """Allocate this address; AlreadyExistsError, in Docker's words, if it is taken."""
        number = int(ip_address(address))
        first, last = _hosts(self.whole)
        if not first <= number <= last or number in self._used or number in self._kept:
            raise AlreadyExistsError(
                "Address already in use", hint=f"choose another than {address}"
            )
        self._used.add(number)

    def release(self, address: str) -> None:
        """Release it; an address that is not in use is no error."""
        number = int(ip_address(address))
        self._used.discard(number)
        if self._first <= number < self._next and number not in self._in_heap:
            heapq.heappush(self._freed, number)
            self._in_heap.add(number)

    def _candidates(self) -> Iterator[int]:
        while self._freed:
            number = heapq.heappop(self._freed)
            self._in_heap.discard(number)
            yield number
        while self._next <= self._last:
            self._next += 1
            yield self._next - 1

    def _text(self, number: int) -> str:
        return str(IPv4Address(number) if self.whole.version == 4 else IPv6Address(number))


def _hosts(network: AnyNetwork) -> tuple[int, int]:
    """Return the first and the last address that an interface may have.

    Without an IPv4 subnet's own and its broadcast address, and IPv6's for "any router"
    (RFC 4291, 2.6.1); but both of a subnet of two (RFC 3021, RFC 6164).
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.num_addresses <= 2:
        return first, last
    return first + 1, last - 1 if network.version == 4 else last


def mac_for(address: str) -> str:
    """Return a locally administered MAC: derived from an IPv4 address, else random.

    If it is derived, neighbours' caches stay right when another container gets the address.
    """
    ipv4 = address and ip_address(address.partition("/")[0])
    tail = ipv4.packed if isinstance(ipv4, IPv4Address) else secrets.token_bytes(4)
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *tail))


def link_local(mac: str) -> str:
    """Return the link-local address that the kernel derives from a MAC. RFC 4291, appendix A."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]).hex(":", 2)
    return f"fe80::{identifier}"
