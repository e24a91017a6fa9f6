"""orlop rename."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, operand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Gives a container another name."

    container = operand("CONTAINER", completes=CONTAINER)
    new_name = operand("NEW_NAME")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Rename it."""
    client.containers.rename(args.container, to=args.new_name)
    return 0
