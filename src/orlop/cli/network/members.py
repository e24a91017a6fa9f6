"""orlop network members."""

from __future__ import annotations

from orlop.cli.options import NETWORK, Arguments, operand, text
from orlop.cli.output.listing import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client

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


class Args(Arguments):
    description = (
        "Lists the hosts of a network of several hosts. One is connected, silent (its engine\n"
        "does not answer) or gone (nothing is sent there until it answers)."
    )

    form = text("--format", metavar="TEMPLATE", help="table, table TEMPLATE, TEMPLATE or json")
    network = operand("NETWORK", completes=NETWORK)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """List them, this host first."""
    rows = [row(member) for member in client.networks.members(args.network)]
    LISTING.show(rows, out, form=args.form)
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
