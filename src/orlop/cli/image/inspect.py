"""orlop image inspect."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Arguments, operands, text
from orlop.cli.system.inspect import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Shows all that is known of images, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Architecture}}, or json")
    names = operands("IMAGE", completes=IMAGE)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print them; 1 if any was not found."""
    return show(args.names, client.images.inspect, (out, err), form=args.form)
