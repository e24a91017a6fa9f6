"""orlop stop."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, number, operands, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = (
        "Asks containers to stop with a signal, and kills them if they have not after a while."
    )

    signal = text("-s", "--signal", metavar="SIGNAL", help="in place of the container's own")
    timeout_s = number(
        "-t", "--time", "--timeout", metavar="S", help="seconds before SIGKILL (default: 10)"
    )
    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Stop each; 1 if any could not be."""
    containers = client.containers

    def act(name: str) -> None:
        containers.stop(name, timeout_s=args.timeout_s, signal=args.signal or None)

    return each(args.names, act, out=out, err=err)
