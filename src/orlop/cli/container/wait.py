"""orlop wait."""

from __future__ import annotations

from orlop.cli.each import each
from orlop.cli.options import CONTAINER, Arguments, operands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Blocks until containers stop; prints the exit code of each."

    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Wait for each in turn; 1 if any could not be waited for."""

    def act(name: str) -> None:
        status, _ = client.containers.wait(name).exit_status()
        print(status, file=out, flush=True)

    return each(args.names, act, out=None, err=err)
