"""orlop tag."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Arguments, operand
from orlop.client.images import split_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Gives an image another name; it keeps those it has."

    source = operand("IMAGE[:TAG]", completes=IMAGE)
    target = operand("NAME[:TAG]")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Tag it."""
    repository, tag = split_tag(args.target)
    client.images.tag(args.source, repository=repository, tag=tag or "latest")
    return 0
