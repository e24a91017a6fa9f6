"""The files that the engine makes for a container: hostname, hosts, resolv.conf."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions

_OWN_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def write_files(folder: Path, options: ContainerOptions, hostname: str) -> dict[str, str]:
    """Write the files into *folder* where they are missing; return container path -> host path.

    What a container wrote into them is kept from one start to the next.
    """
    contents = {
        "hostname": hostname + "\n",
        "hosts": _hosts(options, hostname),
        "resolv.conf": _resolv_conf(options),
    }
    for name, text in contents.items():
        try:
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue
        with os.fdopen(fd, "w") as file:
            file.write(text)
    return {f"/etc/{name}": str(folder / name) for name in contents}


def _hosts(options: ContainerOptions, hostname: str) -> str:
    if options.network == "host":
        own = _read("/etc/hosts") or _OWN_HOSTS
    else:
        own = _OWN_HOSTS + f"127.0.0.1\t{hostname}\n"
    return own + "".join(_host_line(entry) for entry in options.extra_hosts)


def _host_line(entry: str) -> str:
    """NAME:ADDRESS or NAME=ADDRESS."""
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
    if not name or not address or any(c in entry for c in "\n\r\t\0 "):
        raise InvalidArgumentError(f'bad format for add-host: "{entry[:200]}"')
    address = "127.0.0.1" if address == "host-gateway" else address.strip("[]")
    if not _is_address(address):
        raise InvalidArgumentError(f'invalid IP address in add-host: "{address[:200]}"')
    return f"{address}\t{name}\n"


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, text.partition("%")[0])
            return True
    return False


def _resolv_conf(options: ContainerOptions) -> str:
    if not (options.dns or options.dns_search or options.dns_options):
        return _read("/etc/resolv.conf") if options.network == "host" else ""
    for word in (*options.dns, *options.dns_search, *options.dns_options):
        if any(character.isspace() or character == "\0" for character in word):
            raise InvalidArgumentError(f"invalid DNS setting {word[:200]!r}")
    for address in options.dns:
        if not _is_address(address):
            raise InvalidArgumentError(f"DNS server {address[:200]!r} is not an IP address")
    lines = [f"nameserver {address}" for address in options.dns]
    if options.dns_search:
        lines.append("search " + " ".join(options.dns_search))
    if options.dns_options:
        lines.append("options " + " ".join(options.dns_options))
    return "\n".join(lines) + "\n"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
