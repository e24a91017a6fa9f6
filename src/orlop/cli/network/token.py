"""orlop network token."""

from __future__ import annotations

from orlop.cli.options import NETWORK, Arguments, operand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = (
        "Prints what another host needs to join a network of several hosts (driver vxlan).\n"
        "Keep it secret: who has it can join, and send packets to every container there."
    )
    examples = (("orlop network token web | ssh other orlop network join -", "with no copying"),)

    network = operand("NETWORK", completes=NETWORK)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print it."""
    print(client.networks.token(args.network), file=out)
    return 0
