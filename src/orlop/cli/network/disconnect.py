"""orlop network disconnect."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, NETWORK, Arguments, flag, operand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Takes a container off a network: at once if it runs, and for its later starts."

    force = flag("-f", "--force", help="whatever state the container is in")
    network = operand("NETWORK", completes=NETWORK)
    container = operand("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Disconnect it."""
    client.networks.disconnect(args.network, args.container, force=args.force)
    return 0
