"""orlop volume prune."""

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
    description = "Removes volumes that no container has: those without a name, or with -a all."

    all_unused = flag("-a", "--all", help="also those with a name")
    force = flag("-f", "--force", help="do not ask")
    filters = texts("--filter", metavar="KEY=VALUE", help="label=…")


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Remove them and print their names."""
    which = "all volumes" if args.all_unused else "volumes without a name"
    filters = parse_filters(args.filters)
    if args.all_unused:
        filters["all"] = ["true"]
    if not args.force and not confirmed(f"This will remove {which} that no container has.", out):
        return 0
    answer = client.volumes.prune(filters=filters)
    removed = answer.get("VolumesDeleted") or []
    if removed:
        print("Deleted Volumes:", *removed, "", sep="\n", file=out)
    print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}", file=out)
    return 0
