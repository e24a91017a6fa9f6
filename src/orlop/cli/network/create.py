"""orlop network create."""

from __future__ import annotations

from orlop.cli.network.pools import pools
from orlop.cli.options import Command, flag, operand, text, texts
from orlop.cli.screen import say
from orlop.cli.values import key_values
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class NetworkCreateCommand(Command):
    description = (
        "Creates a network that containers can be put on; prints its id. Containers on it reach\n"
        "each other, and know each other by name; those on other networks they do not reach."
    )
    examples = (
        ("orlop network create web", "a bridge, with a free range of addresses"),
        ("orlop network create --subnet 10.9.0.0/24 --gateway 10.9.0.1 web", "with this range"),
        ("orlop network create --internal db", "with no way out"),
        ("orlop network create -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 lan", "of a LAN"),
    )

    driver = text("-d", "--driver", metavar="NAME", default="bridge", help="default: bridge")
    subnet = texts("--subnet", metavar="CIDR", help="a range of addresses; one for IPv4, IPv6")
    ip_range = texts(
        "--ip-range", metavar="CIDR", help="the part that containers get addresses from"
    )
    gateway = texts("--gateway", metavar="IP", help="the gateway in a subnet")
    aux_address = texts(
        "--aux-address", metavar="NAME=IP", help="an address that is never allocated"
    )
    ipv4 = flag("--ipv4", help="IPv4 (default: true)", default=True)
    ipv6 = flag("--ipv6", help="IPv6, with a generated range if none is given")
    internal = flag("--internal", help="no connection to the outside")
    attachable = flag("--attachable", help="recorded; any container may be connected")
    option = texts("-o", "--opt", metavar="KEY=VALUE", help="for the driver")
    ipam_driver = text("--ipam-driver", metavar="NAME", default="default", help="default: default")
    ipam_option = texts("--ipam-opt", metavar="KEY=VALUE", help="for the IPAM driver")
    label = texts("--label", metavar="KEY=VALUE", help="attach a label")
    name = operand("NAME")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Create it and print its id; warnings go to *err*."""
        try:
            made = client.networks.create(body(self))
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        if made.get("Warning"):
            say(err, f"WARNING: {made['Warning']}")
        print(made["Id"], file=out)
        return 0


def body(args: NetworkCreateCommand) -> dict[str, Any]:
    """Return the body of POST /networks/create; ValueError for what does not fit together."""
    asked: dict[str, Any] = {
        "Name": args.name,
        "CheckDuplicate": True,
        "Driver": args.driver,
        "EnableIPv6": args.ipv6,
        "Internal": args.internal,
        "Attachable": args.attachable,
        "Options": key_values(args.option, option="--opt"),
        "Labels": key_values(args.label, option="--label"),
        "IPAM": {
            "Driver": args.ipam_driver,
            "Options": key_values(args.ipam_option, option="--ipam-opt"),
            "Config": pools(
                subnets=_listed(args.subnet),
                ranges=_listed(args.ip_range),
                gateways=_listed(args.gateway),
                reserved=key_values(args.aux_address, option="--aux-address"),
            ),
        },
    }
    return asked if args.ipv4 else {**asked, "EnableIPv4": False}


def _listed(values: list[str]) -> list[str]:
    """Return all values; one option may have several, with commas."""
    return [part.strip() for value in values for part in value.split(",")]
