"""orlop restart."""

from __future__ import annotations

from orlop.cli.container import stop
from orlop.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(stop.Args):
    description = "Stops containers, then starts them again."


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Restart each; 1 if any could not be."""
    containers = client.containers

    def act(name: str) -> None:
        containers.restart(name, timeout_s=args.timeout_s, signal=args.signal or None)

    return each(args.names, act, out=out, err=err)
