"""orlop volume inspect."""

from __future__ import annotations

from orlop.cli.options import VOLUME, Arguments, operands, text
from orlop.cli.system.inspect import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Shows all that is known of volumes, as JSON or as --format says."

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.Mountpoint}}, or json")
    names = operands("VOLUME", completes=VOLUME)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Print them; 1 if any was not found."""
    return show(args.names, client.volumes.inspect, (out, err), form=args.form)
