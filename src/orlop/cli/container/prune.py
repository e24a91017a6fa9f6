"""orlop container prune."""

from __future__ import annotations

from orlop.cli.each import confirmed
from orlop.cli.options import Arguments, flag, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Removes all containers that do not run."

    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="until=24h, label=…")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove them and print their ids."""
    filters = parse_filters(args.filters)
    if not args.force and not confirmed("This will remove all stopped containers.", out):
        return 0
    answer = client.containers.prune(filters=filters)
    removed = answer.get("ContainersDeleted") or []
    if removed:
        print("Deleted Containers:", *removed, "", sep="\n", file=out)
    print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}", file=out)
    return 0
