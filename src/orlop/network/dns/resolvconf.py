"""Texts of resolv.conf(5), and what containers get of the host's."""

import ipaddress
from typing import NamedTuple

#: Where the engine answers containers; Docker's address.
SERVER = "127.0.0.11"
_MOST_SERVERS = 64
_NDOTS = "ndots:"


class ResolvConf(NamedTuple):
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """Return what *text* says; as the C library does, what it cannot mean is skipped."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and rest and _is_address(rest[0]):
            servers.append(rest[0])
        elif word in ("search", "domain"):  # the last one counts
            search = tuple(rest[:1] if word == "domain" else rest)
        elif word == "options":
            options += rest
    return ResolvConf(tuple(servers[:_MOST_SERVERS]), search, tuple(options))


def render(conf: ResolvConf) -> str:
    lines = [f"nameserver {server}" for server in conf.servers]
    if conf.search:
        lines.append("search " + " ".join(conf.search))
    if conf.options:
        lines.append("options " + " ".join(conf.options))
    return "".join(line + "\n" for line in lines)


def overridden(host: ResolvConf, wanted: ResolvConf) -> ResolvConf:
    """Return *host*, with what a container asked for in its place; search "." means none."""
    search = () if wanted.search == (".",) else wanted.search or host.search
    return ResolvConf(wanted.servers or host.servers, search, wanted.options or host.options)


def answered(conf: ResolvConf) -> ResolvConf:
    """Return what a container says whom the engine answers: one server, dots or none.

    Without a dot a name is tried as it is before the search list: names of containers.
    """
    options = conf.options if has_ndots(conf) else (*conf.options, _NDOTS + "0")
    return ResolvConf((SERVER,), conf.search, options)


def has_ndots(conf: ResolvConf) -> bool:
    return any(option.startswith(_NDOTS) for option in conf.options)


def reachable(conf: ResolvConf, *, ipv6: bool) -> ResolvConf:
    """Return it without servers that a container cannot reach: of the host's loopback, IPv6."""
    return conf._replace(servers=tuple(s for s in conf.servers if _is_reachable(s, ipv6=ipv6)))


def _is_reachable(server: str, *, ipv6: bool) -> bool:
    address = ipaddress.ip_address(server)
    return not address.is_loopback and (ipv6 or address.version == 4)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
