"""Ownership of interfaces on the host: their alias, and names derived from ids.

Two engines on one host never touch each other's interfaces, and after a crash ours without a
record are found. Alias: `orlop:<engine, 8 hex>:<network's or container's id>`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # programs that start often pass plain values: network/cni/plugin
if TYPE_CHECKING:
    from orlop.model.network import Endpoint, Network


_PREFIX = "orlop:"


def alias(engine: str, identifier: str) -> str:
    return f"{_PREFIX}{engine}:{identifier}"


def owned_by(engine: str, text: str) -> str | None:
    """Return the id in an alias of this *engine*, or None if it is not this engine's."""
    start = alias(engine, "")
    return text[len(start) :] if text.startswith(start) else None


def is_an_engine(text: str) -> bool:
    """Whether an engine, ours or another, made the interface with that alias."""
    return text.startswith(_PREFIX)


def device_name(prefix: str, network: Network) -> str:
    """Return the name of a network's device: "or-" its bridge, "ov-" its tunnel."""
    return f"{prefix}{network.id[:12]}"


def veth_name(endpoint: Endpoint) -> str:
    """Return the name of an endpoint's end on the host."""
    return endpoint.host_interface or f"ve{endpoint.id[:12]}"


def shaper_name(endpoint: Endpoint) -> str:
    """Return the name of the interface with the queue of an endpoint's outgoing traffic."""
    return f"vi{endpoint.id[:12]}"
