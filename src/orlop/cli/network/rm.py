"""orlop network rm."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import NETWORK, Arguments, flag, operands
from orlop.errors import NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes networks; not those that a container is on."

    force = flag("-f", "--force", help="it need not exist")
    names = operands("NETWORK", completes=NETWORK)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove each; 1 if any could not be."""

    def act(name: str) -> bool:
        try:
            client.networks.remove(name)
        except NotFoundError:
            if not args.force:
                raise
            return False
        return True

    return each(args.names, act, out=out, err=err)
