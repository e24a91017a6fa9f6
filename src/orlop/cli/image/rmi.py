"""orlop rmi."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import IMAGE, Arguments, flag, operands
from orlop.cli.screen import say
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes names of images, and an image with its last name."

    force = flag("-f", "--force", help="also while it has other names; it need not exist")
    no_prune = flag("--no-prune", help="keep images that lose their last use")
    names = operands("IMAGE", completes=IMAGE)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove each; 1 if any could not be."""

    def act(name: str) -> None:
        try:
            removed = client.images.remove(name, force=args.force, prune=not args.no_prune)
        except NotFoundError as error:
            if not args.force:
                raise
            say(err, f"orlop: {error}")
            return
        for step in removed:
            for verb, what in step.items():
                print(f"{verb}: {what}", file=out)

    return each(args.names, act, out=None, err=err)
