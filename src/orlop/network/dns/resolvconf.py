"""Read and write resolv.conf(5); compute a container's from the host's."""

import ipaddress
from typing import NamedTuple

#: The address at which the engine answers containers; the same as Docker's.
SERVER = "127.0.0.11"
_MOST_SERVERS = 64
_NDOTS = "ndots:"


class ResolvConf(NamedTuple):
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """Parse *text*; like the C library, skip invalid lines."""
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
    """Return *host*, overridden by a container's own settings; search "." means none."""
    search = () if wanted.search == (".",) else wanted.search or host.search
    return ResolvConf(wanted.servers or host.servers, search, wanted.options or host.options)


def answered(conf: ResolvConf) -> ResolvConf:
    """Return the resolv.conf of a container that asks the engine: one server, and ndots or none.

    Without ndots, names without a dot are tried before the search list: names of containers.
    """
    options = conf.options if has_ndots(conf) else (*conf.options, _NDOTS + "0")
    return ResolvConf((SERVER,), conf.search, options)


def has_ndots(conf: ResolvConf) -> bool:
    return any(option.startswith(_NDOTS) for option in conf.options)


def reachable(conf: ResolvConf, *, ipv6: bool) -> ResolvConf:
    """Return it without servers that a container cannot reach: the host's loopback, IPv6."""
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
