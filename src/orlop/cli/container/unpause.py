"""orlop unpause."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, operands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Lets the processes of frozen containers go on."

    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Unpause each; 1 if any could not be."""
    containers = client.containers
    return each(args.names, containers.unpause, out=out, err=err)
