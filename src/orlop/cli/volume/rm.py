"""orlop volume rm."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import VOLUME, Arguments, flag, operands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes volumes and what is in them; not those that a container has."

    force = flag("-f", "--force", help="it need not exist")
    names = operands("VOLUME", completes=VOLUME)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove each; 1 if any could not be."""

    def act(name: str) -> None:
        client.volumes.remove(name, force=args.force)

    return each(args.names, act, out=out, err=err)
