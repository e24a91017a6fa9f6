"""orlop top."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, operand, operands
from orlop.cli.output.listing import write_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    interspersed = False
    description = "Shows the processes of a container, as ps shows them."
    examples = (("orlop top web -o pid,comm", "with ps's own options"),)

    container = operand("CONTAINER", completes=CONTAINER)
    ps_options = operands("PS_OPTIONS", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print the table."""
    found = client.containers.top(args.container, ps_args=" ".join(args.ps_options) or None)
    write_table([found["Titles"], *(found["Processes"] or [])], out)
    return 0
