"""orlop load."""

from __future__ import annotations

from orlop.cli.archive import read_archive
from orlop.cli.options import FILE, Arguments, flag, text
from orlop.cli.output.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Reads the images of an archive of docker save, or of an OCI image layout."
    examples = (
        ("orlop load < app.tar", "from the input"),
        ("orlop load -i layout/", "a folder that is an OCI layout, or a tar of one"),
    )

    source = text("-i", "--input", metavar="FILE", help="a file or folder to read", completes=FILE)
    quiet = flag("-q", "--quiet", help="no progress")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Load them and say what they are called."""
    messages = client.images.load(read_archive(args.source), quiet=args.quiet)
    show(messages, out)
    return 0
