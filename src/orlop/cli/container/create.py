"""orlop create: run without the start."""

from __future__ import annotations

from orlop.cli.container.flags import ContainerArguments
from orlop.cli.container.making import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(ContainerArguments):
    description = "Creates a container without starting it, and prints its id."
    examples = (("orlop start -a $(orlop create alpine echo hello)", "start it later"),)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Create the container and print its id."""
    print(create(args, client, err, attached=True), file=out)
    return 0
