"""orlop network prune."""

from __future__ import annotations

from orlop.cli.each import confirmed
from orlop.cli.options import Arguments, flag, texts
from orlop.cli.output.listing import parse_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes networks that no container uses; not bridge, host and none."

    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove them and print their names."""
    filters = parse_filters(args.filters)
    question = "This will remove all networks that no container uses."
    if not args.force and not confirmed(question, out):
        return 0
    if removed := client.networks.prune(filters=filters):
        print("Deleted Networks:", *removed, "", sep="\n", file=out)
    return 0
