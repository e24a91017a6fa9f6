"""orlop container inspect."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Arguments, flag, operands, text
from orlop.cli.system.inspect import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Shows all that is known of containers, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.State.Pid}}, or json")
    size = flag("-s", "--size", help="with the sizes of its file system")
    names = operands("CONTAINER", completes=CONTAINER)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print them; 1 if any was not found."""

    def find(name: str) -> dict[str, Any]:
        return client.containers.inspect(name, size=args.size)

    return show(args.names, find, (out, err), form=args.form)
