"""orlop save."""

from __future__ import annotations

from orlop.cli.archive import write_archive
from orlop.cli.options import FILE, IMAGE, Arguments, operands, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Writes images to one tar archive, which load, docker load and skopeo read."
    examples = (("orlop save -o app.tar app:1 app:2", "two of them"),)

    output = text(
        "-o", "--output", metavar="FILE", help="write there, not to the output", completes=FILE
    )
    names = operands("IMAGE", completes=IMAGE)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Write the archive."""
    write_archive(lambda: client.images.save(args.names), args.output, out)
    return 0
