"""From the options about networks to the API's NetworkMode, NetworkingConfig and the like.

Imported only where more is asked for than one network by its name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.cli.container.flags import ContainerArguments

_OWN = ("default", "bridge", "host", "none")
_JOINS = ("container:", "ns:")
#: Fields of --network name=…; those that may be repeated are lists.
_FIELDS = {
    "alias": "aliases",
    "ip": "ip",
    "ip6": "ip6",
    "mac-address": "mac",
    "link-local-ip": "link_local",
    "driver-opt": "driver",
    "gw-priority": "priority",
}
_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
_LIMITS = {
    "in": "IngressRate",
    "in-burst": "IngressBurst",
    "out": "EgressRate",
    "out-burst": "EgressBurst",
}


class Attachment:
    """What is asked of one network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.link_local: list[str] = []
        self.driver: list[str] = []
        self.ip = self.ip6 = self.mac = self.priority = ""

    def settings(self) -> dict[str, Any]:
        """Return the API's EndpointSettings."""
        ipam = {"IPv4Address": self.ip, "IPv6Address": self.ip6, "LinkLocalIPs": self.link_local}
        given: dict[str, Any] = {
            "IPAMConfig": {name: value for name, value in ipam.items() if value},
            "Aliases": self.aliases,
            "Links": self.links,
            "MacAddress": self.mac,
            "DriverOpts": dict(_pair(option) for option in self.driver),
            "GwPriority": int(self.priority or 0),
        }
        return {name: value for name, value in given.items() if value}


def is_plain(network: str) -> bool:
    """Whether --network has a mode or a network's name, and no name=…,…"""
    return "=" not in network or network.startswith(_JOINS)


def networking(args: ContainerArguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes into HostConfig, and EndpointsConfig by name; ValueError for nonsense."""
    attachments = [_attachment(value) for value in args.network or ["default"]]
    names = [attachment.name for attachment in attachments]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'network "{name}" is specified multiple times')
        if len(names) > 1 and (name in ("host", "none") or name.startswith(_JOINS)):
            raise ValueError(
                "conflicting options: cannot attach both user-defined and non-user-defined"
                " network-modes"
            )
    main = attachments[0]
    host: dict[str, Any] = {"NetworkMode": main.name}
    _add_options(main, args)
    if main.links and main.name in ("default", "bridge"):
        host["Links"], main.links = main.links, []
    for attachment in attachments:
        _check(attachment)
    endpoints = {a.name: a.settings() for a in attachments}
    plain = len(endpoints) == 1 and not endpoints[main.name]
    return host, {} if plain else endpoints


def _attachment(value: str) -> Attachment:
    if not value:
        raise ValueError("no name set for network")
    if is_plain(value):
        return Attachment(value)
    fields: list[tuple[str, str]] = []
    for part in value.split(","):
        key, equals, text = part.partition("=")
        key = key.strip().lower()
        if not equals:
            raise _invalid(value, f"invalid field {part}")
        if key != "name" and key not in _FIELDS:
            raise _invalid(value, f"invalid field key {key}")
        fields.append((key, text.strip()))
    names = [text for key, text in fields if key == "name" and text]
    if not names:
        raise _invalid(value, "network name/id is not specified")
    made = Attachment(names[-1])
    for key, text in fields:
        _set(made, key, text, value)
    return made


def _set(attachment: Attachment, key: str, text: str, value: str) -> None:
    if key == "name":
        return
    if key == "driver-opt" and "=" not in text:
        raise _invalid(value, "invalid key value pair format in driver options")
    if key == "gw-priority" and not text.lstrip("-").isdecimal():
        raise _invalid(value, f"invalid gw-priority {text!r}")
    there = getattr(attachment, _FIELDS[key])
    if isinstance(there, list):
        there.append(text)
    else:
        setattr(attachment, _FIELDS[key], text)


def _invalid(value: str, why: str) -> ValueError:
    return ValueError(f'invalid argument "{value}" for "--network" flag: {why}')


def _add_options(main: Attachment, args: ContainerArguments) -> None:
    """Put the options that are about the container's first network into it."""
    for mine, given, option, what in (
        ("aliases", args.network_alias, "--network-alias", "alias"),
        ("ip", args.ip, "--ip", "IPv4 address"),
        ("ip6", args.ip6, "--ip6", "IPv6 address"),
        ("mac", args.mac_address, "--mac-address", "MAC address"),
        ("link_local", args.link_local_ip, "--link-local-ip", "link-local IP addresses"),
    ):
        if not given:
            continue
        if getattr(main, mine):
            raise ValueError(
                f"conflicting options: cannot specify both {option} and per-network {what}"
            )
        setattr(main, mine, given)
    main.links = list(args.link)


def _check(attachment: Attachment) -> None:
    """Refuse early, and in Docker's words, what only networks of the user's own have."""
    own = attachment.name in _OWN or attachment.name.startswith(_JOINS)
    if attachment.aliases and own:
        raise ValueError("network-scoped aliases are only supported for user-defined networks")
    if attachment.links and own:
        raise ValueError("links are only supported for user-defined networks")
    if attachment.mac and not _is_mac(attachment.mac):
        raise ValueError(f"{attachment.mac} is not a valid mac address")


def _is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    return len(parts) == 6 and all(
        len(part) == 2 and not part.lower().strip("0123456789abcdef") for part in parts
    )


def _pair(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    return key, value


def bandwidth(value: str) -> dict[str, int]:
    """Return the limits of --bandwidth in=10mbit,out=1gbit, in bits (a second)."""
    limits: dict[str, int] = {}
    for part in value.split(","):
        key, equals, text = part.partition("=")
        if not equals or key not in _LIMITS:
            raise ValueError(
                f"invalid value {value!r} for --bandwidth: expected in=10mbit,out=10mbit"
            )
        limits[_LIMITS[key]] = _bits(text, value)
    for way in ("Ingress", "Egress"):
        if f"{way}Burst" in limits and f"{way}Rate" not in limits:
            raise ValueError(f"invalid value {value!r} for --bandwidth: a burst needs a rate")
    return limits


def _bits(text: str, value: str) -> int:
    figures = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(figures) :]
    try:
        bits = int(float(figures) * _UNITS[unit or "bit"])
    except (ValueError, KeyError, OverflowError):
        bits = 0
    if bits <= 0:
        raise ValueError(f"invalid value {value!r} for --bandwidth: expected a rate such as 10mbit")
    return bits


def extra_host(value: str) -> str:
    """Return NAME:IP for NAME:IP, NAME=IP, and IPv6 addresses with or without brackets."""
    separator = "=" if "=" in value else ":"
    name, _, address = value.partition(separator)
    if not name or not address:
        raise ValueError(f'bad format for add-host: "{value}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return f"{name}:{address}"
