"""orlop network connect and disconnect."""

from __future__ import annotations

from orlop.cli.container.networking import Attachment
from orlop.cli.options import CONTAINER, NETWORK, Command, flag, operand, text, texts
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class NetworkConnectCommand(Command):
    description = (
        "Puts a container on one more network: at once if it runs, and at each start from now on."
    )
    examples = (("orlop network connect --alias db --ip 10.9.0.7 web store", "known as db there"),)

    alias = texts("--alias", metavar="NAME", help="another name on the network")
    ip = text("--ip", metavar="IP", help="its IPv4 address on the network")
    ip6 = text("--ip6", metavar="IP", help="its IPv6 address on the network")
    mac_address = text("--mac-address", metavar="MAC", help="its MAC address on the network")
    link = texts(
        "--link",
        metavar="CONTAINER[:ALIAS]",
        help="reach that container by a name",
        completes=CONTAINER,
    )
    link_local_ip = texts(
        "--link-local-ip", metavar="IP", help="a link-local address on the network"
    )
    driver_opt = texts("--driver-opt", metavar="KEY=VALUE", help="for the network's driver")
    gateway_priority = text(
        "--gw-priority", metavar="N", help="the highest one gets the default route (default: 0)"
    )
    network = operand("NETWORK", completes=NETWORK)
    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Connect it."""
        asked = Attachment(self.network)
        asked.aliases, asked.links, asked.link_local = self.alias, self.link, self.link_local_ip
        asked.ip, asked.ip6, asked.mac = self.ip, self.ip6, self.mac_address
        asked.driver = [part for option in self.driver_opt for part in option.split(",")]
        asked.priority = self.gateway_priority
        if not all("=" in option for option in asked.driver):
            raise InvalidArgumentError("invalid key/value pair format in driver options")
        try:
            settings = asked.settings()
        except ValueError:
            raise InvalidArgumentError(
                f"invalid value {asked.priority!r} for --gw-priority: expected a whole number"
            ) from None
        client.networks.connect(self.network, self.container, settings)
        return 0


class NetworkDisconnectCommand(Command):
    description = "Takes a container off a network: at once if it runs, and for its later starts."

    force = flag("-f", "--force", help="also a container that does not exist any more")
    network = operand("NETWORK", completes=NETWORK)
    container = operand("CONTAINER", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Disconnect it."""
        client.networks.disconnect(self.network, self.container, force=self.force)
        return 0
