"""orlop logout."""

from __future__ import annotations

from orlop.cli.options import Arguments, operand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Forgets the user name and password for a registry."

    server = operand("SERVER", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Forget them; nothing to forget is no error."""
    from orlop.client import credentials

    registry = args.server or credentials.HUB
    if credentials.forget(registry):
        print(f"Removing login credentials for {credentials.key_of(registry)}", file=out)
    else:
        print(f"Not logged in to {credentials.key_of(registry)}", file=out)
    return 0
