"""orlop import."""

from __future__ import annotations

from orlop.cli.archive import read_archive
from orlop.cli.options import FILE, Arguments, operand, text, texts
from orlop.cli.output.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Makes an image of one layer from a tar archive of a file system."
    examples = (("tar -C root -c . | orlop import -c 'CMD [\"sh\"]' - small:1", "from a folder"),)

    change = texts("-c", "--change", metavar="LINE", help="a Dockerfile line: CMD, ENV, USER, …")
    message = text("-m", "--message", metavar="TEXT", help="a line for its history")
    platform = text("--platform", metavar="OS/ARCH", help="what it is for")
    source = operand("FILE|URL|-", completes=FILE)
    reference = operand("NAME[:TAG]", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Import it and print its id."""
    remote = args.source.startswith(("http://", "https://"))
    messages = client.images.import_(
        args.source if remote else read_archive(args.source),
        reference=args.reference,
        message=args.message or None,
        changes=args.change,
        platform=args.platform or None,
    )
    show(messages, out)
    return 0
