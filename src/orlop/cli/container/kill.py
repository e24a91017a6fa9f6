"""orlop kill."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, operands, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Sends a signal to the main process of running containers."

    signal = text(
        "-s", "--signal", metavar="SIGNAL", default="KILL", help="name or number (default: KILL)"
    )
    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Signal each; 1 if any could not be."""
    containers = client.containers

    def act(name: str) -> None:
        containers.kill(name, signal=args.signal)

    return each(args.names, act, out=out, err=err)
