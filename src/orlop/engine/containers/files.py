"""The files that the engine makes for a container: hostname, hosts, resolv.conf.

What depends on networks is written anew at each start and when a running container is
connected or disconnected. What somebody changed in the container stays: resolv.conf as a
whole, of hosts every line that is not ours. To tell, FILE.made has what we wrote last, and
what before that (an engine may be killed between the two writes).
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions
from orlop.store.faults import explained

if TYPE_CHECKING:
    from orlop.network.dns.resolvconf import ResolvConf

_NAMES = ("hostname", "hosts", "resolv.conf")
_OWN_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
_HOST_GATEWAY = "host-gateway"
_RESOLV_CONF = "/etc/resolv.conf"
_STUB = "127.0.0.53"  # systemd-resolved's, whose own servers are in the next file
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
_ANY_BYTES = "surrogateescape"
_MOST_BYTES = 1 << 20  # more than that nobody writes into these but in bad faith


class Addressing(NamedTuple):
    """What a container has on its networks."""

    addresses: Sequence[str] = ()
    gateways: Sequence[str] = ()  # what host-gateway means there
    linked: Sequence[str] = ()  # lines of hosts for linked containers
    named: bool = False  # a network of names: the engine answers
    ipv6: bool = False


def container_files(folder: Path) -> dict[str, str]:
    """Return container path -> host path of the files in *folder*."""
    return {f"/etc/{name}": f"{folder}/{name}" for name in _NAMES}


def forget_files(folder: Path) -> None:
    """Remove the files from *folder*, so that write_files() makes them anew."""
    for name in _NAMES:
        for path in (folder / name, _made_path(folder / name)):
            with suppress(FileNotFoundError):
                path.unlink()


def write_files(folder: Path, options: ContainerOptions, hostname: str) -> dict[str, str]:
    """Write the files into *folder* where they are missing; return container path -> host path.

    What a container wrote into them is kept from one start to the next.
    """
    resolv_conf = _checked_resolv_conf(options)
    contents = (hostname + "\n", _hosts(options, hostname), resolv_conf)
    files = container_files(folder)
    for path, text in zip(files.values(), contents, strict=True):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            continue
        with open(fd, "wb", buffering=0) as file:
            file.write(text.encode(errors=_ANY_BYTES))
    return files


def refresh_files(
    folder: Path, options: ContainerOptions, hostname: str, addressing: Addressing
) -> bool:
    """Bring hosts and resolv.conf to what a container on networks has now.

    Returns whether resolv.conf is to name the engine as the server.
    InvalidArgumentError where --add-host speaks of a gateway that there is not.
    """
    hosts = "".join(_network_hosts(options, hostname, addressing))
    answered, resolv_conf = _network_resolv_conf(options, addressing)
    with explained("the files of a container"):
        _replace_lines(folder / "hosts", hosts)
        _replace_unless_changed(folder / "resolv.conf", resolv_conf)
    return answered


def network_files(
    options: ContainerOptions, hostname: str, addressing: Addressing
) -> tuple[bool, dict[str, str]]:
    """Return what refresh_files() does, and by container path what the two files say at first."""
    answered, resolv_conf = _network_resolv_conf(options, addressing)
    hosts = _hosts(options, hostname) + "".join(_network_hosts(options, hostname, addressing))
    return answered, {"/etc/hosts": hosts, _RESOLV_CONF: resolv_conf}


def _hosts(options: ContainerOptions, hostname: str) -> str:
    if options.network == "host":
        own = _read("/etc/hosts") or _OWN_HOSTS
    elif options.networks:
        own = _OWN_HOSTS  # its names come with its addresses
    else:
        own = _OWN_HOSTS + f"127.0.0.1\t{hostname}\n"
    entries = map(_host_entry, options.extra_hosts)
    return own + "".join(
        f"{'127.0.0.1' if address == _HOST_GATEWAY else address}\t{name}\n"
        for address, name in entries
        if address != _HOST_GATEWAY or not options.networks
    )


def _network_hosts(
    options: ContainerOptions, hostname: str, addressing: Addressing
) -> Sequence[str]:
    gateway_names = [n for a, n in map(_host_entry, options.extra_hosts) if a == _HOST_GATEWAY]
    if gateway_names and not addressing.gateways:
        raise InvalidArgumentError(
            "unable to derive the IP value for host-gateway",
            hint="none of the container's networks has a gateway",
        )
    names = f"{hostname}.{options.domainname} {hostname}" if options.domainname else hostname
    lines = [f"{gateway}\t{n}\n" for n in gateway_names for gateway in addressing.gateways]
    lines += [f"{address}\t{names}\n" for address in addressing.addresses]
    return lines + [f"{line}\n" for line in addressing.linked]


def _host_entry(entry: str) -> tuple[str, str]:
    """Return address and name of NAME:ADDRESS or NAME=ADDRESS."""
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
    if not name or not address or any(c in entry for c in "\n\r\t\0 "):
        raise InvalidArgumentError(f'bad format for add-host: "{entry[:200]}"')
    address = address.strip("[]")
    if address != _HOST_GATEWAY and not _is_address(address):
        raise InvalidArgumentError(f'invalid IP address in add-host: "{address[:200]}"')
    return address, name


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, text.partition("%")[0])
            return True
    return False


def _checked_resolv_conf(options: ContainerOptions) -> str:
    """Return what it is at first; of a container on networks it changes at each start."""
    for word in (*options.dns, *options.dns_search, *options.dns_options):
        if any(character.isspace() or character == "\0" for character in word):
            raise InvalidArgumentError(f"invalid DNS setting {word[:200]!r}")
    for address in options.dns:
        if not _is_address(address):
            raise InvalidArgumentError(f"DNS server {address[:200]!r} is not an IP address")
    wants = options.dns or options.dns_search or options.dns_options
    if options.network == "host" and not wants:
        return _read(_RESOLV_CONF)
    if options.network.startswith(("ns:", "pod:")):
        return _network_resolv_conf(options, Addressing(ipv6=True))[1]
    if not wants:
        return ""
    from orlop.network.dns import resolvconf

    host = resolvconf.ResolvConf()
    if options.network == "host":
        host = resolvconf.parse(_read(_RESOLV_CONF))
    return resolvconf.render(resolvconf.overridden(host, _wanted(options)))


def _network_resolv_conf(options: ContainerOptions, addressing: Addressing) -> tuple[bool, str]:
    """Return whether the engine answers, and the file.

    On the default network it answers only where the host's own servers are all out of
    reach, on its loopback.
    """
    from orlop.network.dns import resolvconf

    host = resolvconf.parse(_read(_RESOLV_CONF))
    if {*host.servers} == {_STUB}:
        host = resolvconf.parse(_read(_BEHIND_STUB)) if os.path.exists(_BEHIND_STUB) else host
    reachable = resolvconf.reachable(host, ipv6=addressing.ipv6)
    conf = resolvconf.overridden(reachable, _wanted(options))
    if addressing.named or (addressing.addresses and not conf.servers):
        return True, resolvconf.render(resolvconf.answered(conf))
    return False, resolvconf.render(conf)


def _wanted(options: ContainerOptions) -> "ResolvConf":
    from orlop.network.dns.resolvconf import ResolvConf

    return ResolvConf(options.dns, options.dns_search, options.dns_options)


def _replace_unless_changed(path: Path, text: str) -> None:
    """Write *text* into the file, unless somebody else wrote into it."""
    current, made = _read(path), _made(path)
    if made and current not in made:
        return
    if current != text or not made:
        _write(_made_path(path), f"{current}\0{text}")
        _write(path, text)


def _replace_lines(path: Path, text: str) -> None:
    """Put the lines of *text* in the place of those that were put before, after all others."""
    current, made = _read(path), _made(path)
    ours = {line for one in made for line in one.splitlines(keepends=True)}
    kept = [line for line in current.splitlines(keepends=True) if line not in ours]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    wanted = "".join(kept) + text
    if wanted != current or text not in made:
        _write(_made_path(path), f"{made[-1] if made else ''}\0{text}")
        _write(path, wanted)


def _made_path(path: Path) -> Path:
    return path.with_name(path.name + ".made")


def _made(path: Path) -> list[str]:
    """Return what we wrote before and last; nothing of a file that is as it was made."""
    text = _read(_made_path(path))
    return text.split("\0") if text else []


def _write(path: Path, text: str) -> None:
    """Write into the file itself, which may be mounted in a container."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(fd, "w", errors=_ANY_BYTES, newline="") as file:
        file.write(text)
        file.truncate()


def _read(path: str | Path) -> str:
    try:
        with open(path, errors=_ANY_BYTES, newline="") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return ""
