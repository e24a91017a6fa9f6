"""orlop network token, join and members: networks that several hosts share."""

from __future__ import annotations

import sys

from orlop.cli.options import NETWORK, Command, operand, text
from orlop.cli.output.listing import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class NetworkTokenCommand(Command):
    description = (
        "Prints what another host needs to join a network of several hosts (driver vxlan).\n"
        "Keep it secret: who has it can join, and send packets to every container there."
    )
    examples = (("orlop network token web | ssh other orlop network join -", "with no copying"),)

    network = operand("NETWORK", completes=NETWORK)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print it."""
        print(client.networks.token(self.network), file=out)
        return 0


class NetworkJoinCommand(Command):
    description = (
        "Has a network of other hosts here too, by a token that one of them has printed; prints\n"
        "the network's id. Containers on it talk with those on the other hosts. With - the\n"
        "token is read from the input, where no list of processes shows it."
    )
    examples = (("orlop network join orlop-join-…", "after orlop network token NETWORK elsewhere"),)

    address = text("--address", metavar="IP", help="this host's tunnel address (default: by route)")
    token = operand("TOKEN|-")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Join and print the id."""
        token = sys.stdin.readline().strip() if self.token == "-" else self.token
        print(client.networks.join(token, address=self.address)["Id"], file=out)
        return 0


LISTING = Listing(
    {
        "ID": "MEMBER ID",
        "Name": "HOST",
        "Address": "ADDRESS",
        "Status": "STATUS",
        "Endpoints": "ENDPOINTS",
    },
    default=("ID", "Name", "Address", "Status", "Endpoints"),
)


class NetworkMembersCommand(Command):
    description = (
        "Lists the hosts of a network of several hosts. One is connected, silent (its engine\n"
        "does not answer) or gone (nothing is sent there until it answers)."
    )

    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    network = operand("NETWORK", completes=NETWORK)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """List them, this host first."""
        rows = [row(member) for member in client.networks.members(self.network)]
        LISTING.show(rows, out, form=self.form)
        return 0


def row(member: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of one member, as text."""
    return {
        "ID": member["Id"],
        "Name": member["Name"],
        "Address": member["Address"],
        "Status": "this host" if member["Self"] else member["Status"],
        "Endpoints": str(member["Endpoints"]),
    }
