"""orlop network join."""

from __future__ import annotations

import sys

from orlop.cli.options import Arguments, operand, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = (
        "Has a network of other hosts here too, by a token that one of them has printed; prints\n"
        "the network's id. Containers on it talk with those on the other hosts. With - the\n"
        "token is read from the input, where no list of processes shows it."
    )
    examples = (("orlop network join orlop-join-…", "after orlop network token NETWORK elsewhere"),)

    address = text(
        "--address", metavar="IP", help="this host's, for the packets (default: as routes say)"
    )
    token = operand("TOKEN|-")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Join and print the id."""
    token = sys.stdin.readline().strip() if args.token == "-" else args.token
    print(client.networks.join(token, address=args.address)["Id"], file=out)
    return 0
