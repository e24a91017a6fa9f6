"""orlop rm."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, flag, operands
from orlop.cli.screen import say
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes containers, with their file systems and logs."

    force = flag("-f", "--force", help="kill it if it runs; it need not exist")
    volumes = flag("-v", "--volumes", help="remove its anonymous volumes too")
    link = flag("-l", "--link", help="not supported")
    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove each; 1 if any could not be."""
    containers = client.containers

    def act(name: str) -> bool:
        try:
            containers.remove(name, force=args.force, volumes=args.volumes, link=args.link)
        except NotFoundError as error:
            if not args.force:
                raise
            say(err, f"orlop: {error}")
            return False
        return True

    return each(args.names, act, out=out, err=err)
