"""orlop pause."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, operands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Freezes all processes of containers until unpause."

    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Pause each; 1 if any could not be."""
    containers = client.containers
    return each(args.names, containers.pause, out=out, err=err)
