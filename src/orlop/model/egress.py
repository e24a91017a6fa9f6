"""Where a sandbox may send to: destinations as people write them.

    [tcp:|udp:|sctp:]WHERE[:PORT[-PORT]]

WHERE is an address, a range of them (192.0.2.0/24, [2001:db8::]/32), a DNS name, or
*.NAME for all names below one. A port alone is TCP's; without both, everything is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from orlop.errors import InvalidArgumentError
from orlop.model.light import NamedTuple
from orlop.model.ports import LAST_PORT, PROTOCOLS, parse_ports

_MOST = 256  # each is a rule that packets go through
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.)?(?=.{{1,253}}$)(?:{_LABEL}\.)*(?=.*[a-z]){_LABEL}")
_HINT = "such as pypi.org:443, *.example.com:443, 192.0.2.0/24, udp:[2001:db8::1]:123"


class Destination(NamedTuple):
    """One entry: a *network* ("192.0.2.0/24", of one address too) or a *name*, not both."""

    network: str = ""
    name: str = ""  # lower case, "*.example.com" for all names below example.com
    protocol: str = ""  # tcp, udp, sctp; "" for every protocol, of which there are no ports
    first_port: int = 0
    last_port: int = 0

    def __str__(self) -> str:
        """Return a text that parse() takes."""
        where = self.name or self.network.removesuffix("/128" if ":" in self.network else "/32")
        if not self.protocol:
            return where
        where = f"[{where}]" if ":" in where else where
        ports = str(self.first_port)
        if self.last_port != self.first_port:
            ports += f"-{self.last_port}"
        return f"{'' if self.protocol == 'tcp' else f'{self.protocol}:'}{where}:{ports}"


def parse(text: str) -> Destination:
    """Return the destination; InvalidArgumentError for what cannot be one."""
    protocol, where, colon, ports = _split(text.strip().lower())
    first, last = _ports(text, ports) if colon else (0, 0)
    if first and not protocol:
        protocol = "tcp"
    elif protocol and not first:
        first, last = 1, LAST_PORT
    if _NAME.fullmatch(where):
        if first != last:
            raise _invalid(text, "a name goes with one port, or with none and no protocol")
        return Destination(name=where, protocol=protocol, first_port=first, last_port=last)
    network = str(_network(text, where))
    return Destination(network=network, protocol=protocol, first_port=first, last_port=last)


def parse_all(texts: Iterable[str]) -> tuple[Destination, ...]:
    """Return each destination once; InvalidArgumentError also for too many."""
    found = tuple(dict.fromkeys(parse(text) for text in texts))
    if len(found) > _MOST:
        raise InvalidArgumentError(
            f"an egress list of {len(found)} entries", hint=f"{_MOST} are the most"
        )
    return found


def _split(text: str) -> tuple[str, str, str, str]:
    """Return protocol, where, ":" if there are ports, and the ports."""
    protocol, colon, rest = text.partition(":")
    if not colon or protocol not in PROTOCOLS:
        protocol, rest = "", text
    if rest.startswith("["):
        address, bracket, after = rest[1:].partition("]")
        length, colon, ports = after.partition(":")
        return protocol, address + length if bracket else rest, colon, ports
    if rest.count(":") > 1:
        return protocol, rest, "", ""
    where, colon, ports = rest.partition(":")
    return protocol, where.removesuffix("."), colon, ports


def _ports(text: str, ports: str) -> tuple[int, int]:
    found = parse_ports(ports)
    if not found or not found[0]:
        raise _invalid(text, "ports are 1 to 65535")
    return found[0], found[-1]


def _network(text: str, where: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network("" if "%" in where else where)  # a zone may be any text
    except ValueError as error:
        why = str(error) if "host bits" in str(error) else "neither an address nor a name"
        raise _invalid(text, why) from None


def _invalid(text: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid egress destination {text[:200]!r}: {why}", hint=_HINT)
