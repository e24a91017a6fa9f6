"""The PORTS column of ps."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def port_list(ports: Iterable[dict[str, Any]]) -> str:
    """Return published and exposed ports, those that follow each other as one range.

    A range is made of ports that have the same number on the host, or are not there at all;
    each of the others is shown by itself, behind them: "80-81/tcp, 0.0.0.0:8080->90/tcp".
    """
    groups: dict[tuple[str, str], list[list[int]]] = {}
    moved: list[str] = []
    for port in sorted(ports, key=_order):
        inner, ip, protocol = port["PrivatePort"], _ip(port), port["Type"]
        if ip and port.get("PublicPort") != inner:
            moved.append(f"{ip}:{port.get('PublicPort')}->{inner}/{protocol}")
            continue
        spans = groups.setdefault((ip, protocol), [])
        if spans and spans[-1][1] == inner - 1:
            spans[-1][1] = inner
        elif not spans or spans[-1][1] != inner:
            spans.append([inner, inner])
    joined = [
        _span(first, last, ip, protocol)
        for (ip, protocol), spans in groups.items()
        for first, last in spans
    ]
    return ", ".join([*joined, *moved])


def _order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], _ip(port), port.get("PublicPort") or 0, port["Type"]


def _ip(port: dict[str, Any]) -> str:
    ip = str(port.get("IP") or "")
    return f"[{ip}]" if ":" in ip else ip


def _span(first: int, last: int, ip: str, protocol: str) -> str:
    ports = str(first) if first == last else f"{first}-{last}"
    return f"{ip}:{ports}->{ports}/{protocol}" if ip else f"{ports}/{protocol}"
