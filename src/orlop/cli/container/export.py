"""orlop export."""

from __future__ import annotations

from orlop.cli.archive import write_archive
from orlop.cli.options import CONTAINER, FILE, Arguments, operand, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Writes the file system of a container as a tar archive."
    examples = (("orlop export web | tar -t", "what is in it"),)

    output = text(
        "-o", "--output", metavar="FILE", help="write there, not to the output", completes=FILE
    )
    container = operand("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Write the archive."""
    write_archive(lambda: client.containers.export(args.container), args.output, out)
    return 0
