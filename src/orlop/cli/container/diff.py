"""orlop diff."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, operand
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


_KINDS = ("C", "A", "D")  # the API's numbers: modified, added, deleted


class Args(Arguments):
    description = "Shows what a container has changed: A added, C changed, D deleted."

    container = operand("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print a line for each path."""
    for change in client.containers.changes(args.container):
        print(_KINDS[change["Kind"]], one_line(change["Path"]), file=out)
    return 0
