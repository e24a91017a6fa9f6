"""orlop push: an image to a registry, with progress."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Arguments, flag, operand, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Sends an image to the registry that its name says."
    examples = (("orlop tag app registry.example/team/app:1", "first give it such a name"),)

    quiet = flag("-q", "--quiet", help="print only the digest")
    platform = text("--platform", metavar="OS/ARCH", help="only this platform's image")
    image = operand("NAME[:TAG]", completes=IMAGE)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Push it; OrlopError if it cannot be."""
    from orlop.cli.output.progress import show
    from orlop.client.credentials import header_for

    messages = client.images.push(
        args.image, auth=header_for(args.image), platform=args.platform or None
    )
    show(messages, out, quiet=args.quiet)
    return 0
