"""The capability arguments of a container, in the terms of CNI's conventions.

A plugin gets an argument only if its configuration declares the capability.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from orlop.model.network import Bandwidth, PortMapping


class Names(NamedTuple):
    """Settings for the container's resolver."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


class Range(NamedTuple):
    """A range of addresses; empty fields follow from the subnet."""

    subnet: str
    start: str = ""
    end: str = ""
    gateway: str = ""


class Wishes(NamedTuple):
    """The requests for one attachment; empty ones are not sent."""

    ports: Sequence[PortMapping] = ()
    bandwidth: Bandwidth = Bandwidth()
    addresses: Sequence[str] = ()  # with prefixes
    mac: str = ""
    names: Names = Names()
    aliases: Sequence[str] = ()
    ranges: Sequence[Sequence[Range]] = ()  # one address from each set
    cgroup: str = ""


def arguments(wishes: Wishes) -> dict[str, Any]:
    """Return *wishes* by capability, as an Attachment takes them."""
    told: Mapping[str, Any] = {
        "portMappings": [_port(port) for port in wishes.ports],
        "bandwidth": _bandwidth(wishes.bandwidth),
        "ips": list(wishes.addresses),
        "mac": wishes.mac,
        "dns": _given(wishes.names._asdict()),
        "aliases": list(wishes.aliases),
        "ipRanges": [[_range(one) for one in several] for several in wishes.ranges],
        "cgroupPath": wishes.cgroup,
    }
    return _given(told)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
    return {key: value for key, value in lists.items() if value}


def _port(port: PortMapping) -> dict[str, Any]:
    told = {"hostPort": port.host_port, "containerPort": port.container_port}
    ip = {"hostIP": port.host_ip} if port.host_ip else {}
    return {**told, "protocol": port.protocol, **ip}


def _bandwidth(limits: Bandwidth) -> dict[str, Any]:
    """Return rates and bursts; a burst is as large as the traffic of a tenth of a second."""
    told: dict[str, Any] = {}
    for way, rate, burst in (
        ("ingress", limits.ingress_bps, limits.ingress_burst_bits),
        ("egress", limits.egress_bps, limits.egress_burst_bits),
    ):
        if rate:
            told[f"{way}Rate"] = rate
            told[f"{way}Burst"] = burst or max(rate // 10, 1 << 20)
    return told


def _range(one: Range) -> dict[str, str]:
    return _given(
        {"subnet": one.subnet, "rangeStart": one.start, "rangeEnd": one.end, "gateway": one.gateway}
    )
