"""From -p and --expose to the API's ports. What is said of mistakes is what Docker says."""

from __future__ import annotations

import _socket  # not socket, which is slow to import

from orlop.model.ports import PROTOCOLS, parse_ports


def exposed(expose: list[str], publish: list[str]) -> dict[str, dict[str, str]]:
    """Return every container port that is named, "80/tcp", as the keys of a dictionary."""
    ports: dict[str, dict[str, str]] = {port: {} for value in expose for port in _exposed(value)}
    return ports | {port: {} for port in bindings(publish)}


def bindings(publish: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return container port -> host addresses for -p [[IP:]HOST:]PORT[/PROTOCOL].

    HOST and PORT may be ranges of one length; or HOST a range to choose from for one PORT.
    """
    result: dict[str, list[dict[str, str]]] = {}
    for value in publish:
        value = _spelled_out(value) if "=" in value else value
        ip, host, container = _parts(value)
        figures, _, protocol = container.partition("/")
        protocol = protocol.lower() or "tcp"
        inner = parse_ports(figures)
        if protocol not in PROTOCOLS:
            raise ValueError(f"invalid proto: {protocol}")
        if not inner or not inner[0]:
            raise ValueError(f"invalid containerPort: {figures}")
        for port, host_port in zip(inner, _host_ports(host, inner, figures), strict=True):
            binding = {"HostIp": ip, "HostPort": host_port}
            places = result.setdefault(f"{port}/{protocol}", [])
            if binding not in places:
                places.append(binding)
    return result


def _parts(value: str) -> tuple[str, str, str]:
    """Split [[IP:]HOST:]CONTAINER; an IPv6 address is in brackets."""
    address, _, container = value.rpartition(":")
    ip, _, host = address.rpartition(":")
    if not container:
        raise ValueError(f"no port specified: {value}<empty>")
    return _ip(ip), host, container


def _ip(text: str) -> str:
    if not text:
        return ""
    bracketed = text.startswith("[") and text.endswith("]")
    if ":" in text and not bracketed:
        raise ValueError(f"invalid IP address {text}: an IPv6 address is written in brackets")
    try:
        family = _socket.AF_INET6 if bracketed else _socket.AF_INET
        _socket.inet_pton(family, text[1:-1] if bracketed else text)
    except OSError:
        raise ValueError(f"invalid IP address: {text}") from None
    return text[1:-1] if bracketed else text


def _host_ports(text: str, inner: range, figures: str) -> list[str]:
    if not text:
        return [""] * len(inner)
    outer = parse_ports(text)
    if not outer:
        raise ValueError(f"invalid hostPort: {text}")
    if len(outer) == len(inner):
        return [str(port) for port in outer]
    if len(inner) == 1:
        return [text]  # any one of these: the engine chooses
    raise ValueError(f"invalid ranges specified for container and host Ports: {figures} and {text}")


def _exposed(value: str) -> list[str]:
    """Return "80/tcp" for "80", both ends and all between for "80-82/udp"."""
    if ":" in value:
        raise ValueError(f"invalid port format for --expose: {value}")
    figures, _, protocol = value.partition("/")
    protocol = protocol.lower() or "tcp"
    ports = parse_ports(figures)
    if not ports or not ports[0] or protocol not in PROTOCOLS:
        raise ValueError(f"invalid range format for --expose: {value}")
    return [f"{port}/{protocol}" for port in ports]


def _spelled_out(value: str) -> str:
    """Return published=8080,target=80,protocol=udp in the short form."""
    given = {"published": "", "target": "", "protocol": "tcp"}
    for part in value.split(","):
        key, equals, text = part.partition("=")
        if not equals or key not in given:
            raise ValueError(
                f"invalid publish opts format (should be published=…,target=…,protocol=… but got"
                f" {part!r})"
            )
        given[key] = text
    return f"{given['published']}:{given['target']}/{given['protocol']}"
