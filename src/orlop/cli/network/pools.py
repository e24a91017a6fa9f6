"""Which --gateway, --ip-range and --aux-address belong to which --subnet."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    AnyNetwork = IPv4Network | IPv6Network


def pools(
    *,
    subnets: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    reserved: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the API's IPAM Config; ValueError, in Docker's words, for what fits no subnet."""
    if (ranges or gateways) and not subnets:
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    made: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        for other in made:
            if _network(other).overlaps(_network(subnet)):
                raise ValueError("multiple overlapping subnet configuration is not supported")
        made[subnet] = {"Subnet": subnet}
    for text in ranges:
        _place(made, "IPRange", text, "range")
    for text in gateways:
        _place(made, "Gateway", text, "gateway")
    for name, text in reserved.items():
        subnet = _subnet_of(made, text, "aux-address")
        made[subnet].setdefault("AuxiliaryAddresses", {})[name] = text
    return list(made.values())


def _place(made: dict[str, dict[str, Any]], field: str, text: str, what: str) -> None:
    subnet = _subnet_of(made, text, what)
    if field in made[subnet]:
        raise ValueError(
            f"cannot configure multiple {what}s ({text}, {made[subnet][field]}) for the same"
            f" subnet ({subnet})"
        )
    made[subnet][field] = text


def _subnet_of(made: Mapping[str, object], text: str, what: str) -> str:
    try:
        address = ip_address(text.partition("/")[0])
    except ValueError:
        raise ValueError(f"invalid {what} {text!r}: invalid IP address") from None
    for subnet in made:
        network = _network(subnet)
        if address.version == network.version and address in network:
            return subnet
    raise ValueError(f"no matching subnet for {what} {text}")


def _network(text: str) -> AnyNetwork:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"invalid subnet {text}: invalid CIDR block notation") from None
