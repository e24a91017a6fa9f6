"""From -p and --expose to the API's ports."""

from __future__ import annotations

_PROTOCOLS = ("tcp", "udp", "sctp")


def exposed(expose: list[str], publish: list[str]) -> dict[str, dict[str, str]]:
    """Return every container port that is named, "80/tcp", as the keys of a dictionary."""
    ports: dict[str, dict[str, str]] = {port: {} for value in expose for port in _ports(value)}
    return ports | {port: {} for port in bindings(publish)}


def bindings(publish: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return container port -> host addresses for -p [[IP:]HOST:]PORT[/PROTOCOL]."""
    result: dict[str, list[dict[str, str]]] = {}
    for value in publish:
        address, _, port = value.rpartition(":")
        ip, _, host = address.rpartition(":")
        inner = _ports(port)
        outer = [text.partition("/")[0] for text in _ports(host)] if host else [""] * len(inner)
        if len(inner) != len(outer):
            raise ValueError(f"invalid port {value!r}: the two ranges differ in length")
        for container_port, host_port in zip(inner, outer, strict=True):
            binding = {"HostIp": ip.strip("[]"), "HostPort": host_port}
            result.setdefault(container_port, []).append(binding)
    return result


def _ports(value: str) -> list[str]:
    """Return "80/tcp" for "80", both ends and all between for "80-82/udp"."""
    figures, _, protocol = value.partition("/")
    first, _, last = figures.partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
        raise ValueError(f"invalid port {value!r}: expected a number up to 65535")
    if (protocol or "tcp") not in _PROTOCOLS:
        raise ValueError(f"invalid port {value!r}: expected one of {', '.join(_PROTOCOLS)}")
    return [f"{port}/{protocol or 'tcp'}" for port in range(int(first), int(last) + 1)]
