"""The subnets that this machine has routes to, read from /proc, without netlink."""

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_PROC = "/proc/thread-self/net"
_LINK_LOCAL = IPv6Network("fe80::/10")
_MULTICAST = IPv6Network("ff00::/8")


def routed_subnets(*, without: str = "") -> list[str]:
    """Return the destinations of routes, except default routes and the device *without*."""
    return [*_ipv4(without), *_ipv6(without)]


def _ipv4(without: str) -> Iterator[str]:
    with suppress(FileNotFoundError), open(f"{_PROC}/route", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            words = line.split()
            destination, mask = int(words[1], 16), int(words[7], 16)
            if words[0] == without or not mask:
                continue
            address = IPv4Address(destination.to_bytes(4, "little"))
            yield str(IPv4Network((address, mask.bit_count())))


def _ipv6(without: str) -> Iterator[str]:
    with suppress(FileNotFoundError), open(f"{_PROC}/ipv6_route", encoding="ascii") as file:
        for line in file:
            words = line.split()
            length = int(words[1], 16)
            network = IPv6Network((IPv6Address(int(words[0], 16)), length))
            local = network.subnet_of(_LINK_LOCAL) or network.subnet_of(_MULTICAST)
            if words[-1] in (without, "lo") or not length or local:
                continue
            yield str(network)
