"""orlop network connect."""

from __future__ import annotations

from orlop.cli.container.networking import Attachment
from orlop.cli.options import CONTAINER, NETWORK, Arguments, operand, text, texts
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = (
        "Puts a container on one more network: at once if it runs, and at each start from now on."
    )
    examples = (("orlop network connect --alias db --ip 10.9.0.7 web store", "known as db there"),)

    alias = texts("--alias", metavar="NAME", help="another name of it there")
    ip = text("--ip", metavar="IP", help="its IPv4 address there")
    ip6 = text("--ip6", metavar="IP", help="its IPv6 address there")
    mac_address = text("--mac-address", metavar="MAC", help="its MAC address there")
    link = texts(
        "--link",
        metavar="CONTAINER[:ALIAS]",
        help="know that container by a name",
        completes=CONTAINER,
    )
    link_local_ip = texts("--link-local-ip", metavar="IP", help="a link-local address there")
    driver_opt = texts("--driver-opt", metavar="KEY=VALUE", help="for the network's driver")
    gateway_priority = text(
        "--gw-priority", metavar="N", help="the highest has the default route (default: 0)"
    )
    network = operand("NETWORK", completes=NETWORK)
    container = operand("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Connect it."""
    asked = Attachment(args.network)
    asked.aliases, asked.links, asked.link_local = args.alias, args.link, args.link_local_ip
    asked.ip, asked.ip6, asked.mac = args.ip, args.ip6, args.mac_address
    asked.driver = [part for option in args.driver_opt for part in option.split(",")]
    asked.priority = args.gateway_priority
    if not all("=" in option for option in asked.driver):
        raise InvalidArgumentError("invalid key/value pair format in driver options")
    try:
        settings = asked.settings()
    except ValueError:
        raise InvalidArgumentError(
            f"invalid value {asked.priority!r} for --gw-priority: expected a whole number"
        ) from None
    client.networks.connect(args.network, args.container, settings)
    return 0
